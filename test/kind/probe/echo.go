// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
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
	conn, err := (&net.Dialer{Timeout: patience}).Dial(network, address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(echoPatience)); err != nil {
		return "", err
	}
	from := bufio.NewReader(conn)
	line, err := from.ReadString('\n')
	if err != nil {
		return "", err
	}
	name, _, err := parseGreeting(line)
	if err != nil {
		return "", err
	}
	seed := [32]byte{1}
	sent := make(chan error, 1)
	go func() {
		_, err := io.CopyN(conn, rand.NewChaCha8(seed), size)
		sent <- err
	}()
	want, got, gave := rand.NewChaCha8(seed), make([]byte, 1<<16), make([]byte, 1<<16)
	for at := int64(0); at < size; {
		k := min(int64(len(got)), size-at)
		if _, err := io.ReadFull(from, got[:k]); err != nil {
			return name, fmt.Errorf("after %d of %d bytes: %w", at, size, err)
		}
		if _, err := io.ReadFull(want, gave[:k]); err != nil {
			return name, err
		}
		if !bytes.Equal(got[:k], gave[:k]) {
			return name, fmt.Errorf("among the %d bytes after %d came others than were sent", k, at)
		}
		at += k
	}
	return name, <-sent
}
