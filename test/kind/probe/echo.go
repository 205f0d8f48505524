// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"netio.dev/netio/pkg/netioctl/connectivity/probe"
)

// echoPatience is how long the bytes may take to one target and back.
const echoPatience = 30 * time.Second

// echo sends so many bytes to each TCP target, one after the other, and compares
// what comes back. As reach, it prints a line for each.
func echo(size string, targets []string) error {
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not a number of bytes", size)
	}
	out := json.NewEncoder(os.Stdout)
	for _, target := range targets {
		a := Answer{Target: target}
		if a.Name, err = echoed(target, n); err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return nil
}

// echoed returns the name of who has echoed so many bytes.
func echoed(target string, size int64) (string, error) {
	network, address, ok := strings.Cut(target, "://")
	if !ok || !strings.HasPrefix(network, "tcp") {
		return "", fmt.Errorf("target %q: use tcp4://HOST:PORT or tcp6", target)
	}
	ctx, cancel := context.WithTimeout(context.Background(), echoPatience)
	defer cancel()
	name, _, err := probe.AskTCP(ctx, network, address, size)
	return name, err
}
