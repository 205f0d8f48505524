// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// patience is how long one question may take, with its repetitions.
const patience = 5 * time.Second

// repeatUDP is after how long a datagram is taken for lost.
const repeatUDP = time.Second

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
	line, err := question(target)
	if err != nil {
		a.Error = err.Error()
		return a
	}
	if a.Name, a.From, err = parseGreeting(line); err != nil {
		a.Error = err.Error()
	}
	return a
}

// question returns the greeting of a target.
func question(target string) (string, error) {
	network, address, ok := strings.Cut(target, "://")
	if !ok || !strings.HasPrefix(network, "tcp") && !strings.HasPrefix(network, "udp") {
		return "", fmt.Errorf("target %q: use tcp4://HOST:PORT, tcp6, udp4 or udp6", target)
	}
	end := time.Now().Add(patience)
	conn, err := (&net.Dialer{Deadline: end}).Dial(network, address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if strings.HasPrefix(network, "udp") {
		return askUDP(conn, end)
	}
	if err := conn.SetDeadline(end); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

func askUDP(conn net.Conn, end time.Time) (string, error) {
	answer := make([]byte, 2048)
	for {
		if _, err := conn.Write([]byte("?")); err != nil {
			return "", err
		}
		if err := conn.SetReadDeadline(time.Now().Add(repeatUDP)); err != nil {
			return "", err
		}
		n, err := conn.Read(answer)
		if err == nil {
			return string(answer[:n]), nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(end) {
			return "", err
		}
	}
}

func parseGreeting(line string) (name, from string, err error) {
	words := strings.Fields(line)
	if len(words) != 2 {
		return "", "", fmt.Errorf("answer %q is not NAME ADDRESS", line)
	}
	if from, _, err = net.SplitHostPort(words[1]); err != nil {
		return "", "", fmt.Errorf("answer %q: %w", line, err)
	}
	return words[0], from, nil
}
