// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"netio.dev/netio/pkg/netioctl/connectivity/probe"
)

// patience is how long one question may take, with its repetitions.
const patience = 5 * time.Second

// Answer is a line of reach's output.
type Answer struct {
	Target string
	// Name of the pod that answered, and From, the address it was asked from as it
	// saw it. Error if nobody did.
	Name, From, Error string
}

// Reach asks all targets at the same time; there is an answer for each.
func Reach(targets []string) []Answer {
	answers := make([]Answer, len(targets))
	var wg sync.WaitGroup
	for i, target := range targets {
		wg.Go(func() { answers[i] = ask(target) })
	}
	wg.Wait()
	return answers
}

// reach is Reach. It succeeds if all answers could be printed, whatever they say.
func reach(targets []string) error {
	out := json.NewEncoder(os.Stdout)
	for _, a := range Reach(targets) {
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return nil
}

func ask(target string) Answer {
	a := Answer{Target: target}
	network, address, _ := strings.Cut(target, "://")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := fmt.Errorf("target %q: use tcp4://HOST:PORT, tcp6, udp4 or udp6", target)
	switch network {
	case "tcp4", "tcp6":
		a.Name, a.From, err = probe.AskTCP(ctx, network, address, 0)
	case "udp4", "udp6":
		a.Name, a.From, err = probe.AskUDP(ctx, network, address)
	}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}
