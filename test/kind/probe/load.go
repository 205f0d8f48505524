// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// Load is what load prints.
type Load struct {
	// OK and Failed are numbers of connections, Error is why one failed.
	OK, Failed int
	Error      string `json:",omitempty"`
	// Longest is what the slowest one took.
	Longest time.Duration
}

// load makes so many connections a second, each for a greeting, until in ends. Then
// it prints to out how they went.
func load(rate, address string, in io.Reader, out io.Writer) error {
	perSecond, err := strconv.Atoi(rate)
	if err != nil || perSecond < 1 || perSecond > 100_000 {
		return fmt.Errorf("%q connections a second: expected a number from 1 to 100000", rate)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, in)
		ended <- err
	}()
	var (
		mu    sync.Mutex
		total Load
		calls sync.WaitGroup
	)
	call := func() {
		began := time.Now()
		err := greet(address)
		took := time.Since(began)
		mu.Lock()
		defer mu.Unlock()
		total.Longest = max(total.Longest, took)
		if err != nil {
			total.Failed++
			total.Error = err.Error()
			return
		}
		total.OK++
	}
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			calls.Wait()
			if err != nil {
				return err
			}
			return json.NewEncoder(out).Encode(total)
		case <-tick.C:
			calls.Go(call)
		}
	}
}

// greet makes a connection, reads the greeting and resets the connection: at a thousand a
// second those that wait out TIME_WAIT would have all local ports within half a
// minute, and from then on the search for one is nearly all that is measured.
func greet(address string) error {
	conn, err := (&net.Dialer{Timeout: patience}).Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	return nil
}
