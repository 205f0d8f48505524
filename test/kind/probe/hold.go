// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// answersPerLine is how many answers hold gets before it prints their number.
const answersPerLine = 20

// hold asks over one connection, a question each millisecond at most, until
// standard input ends. It prints how many answers there were, and the milliseconds that
// the latest one of all came after its question, line by line. It fails if the connection does, or if an answer does not come in time.
func hold(address string) error {
	conn, err := (&net.Dialer{Timeout: patience}).Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	from := bufio.NewReader(conn)
	if _, err := from.ReadString('\n'); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		ended <- err
	}()
	var longest time.Duration
	for count := 1; ; count++ {
		asked := time.Now()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		question := fmt.Sprintf("question %d\n", count)
		if _, err := io.WriteString(conn, question); err != nil {
			return fmt.Errorf("after %d answers: %w", count-1, err)
		}
		if answer, err := from.ReadString('\n'); err != nil || answer != question {
			return fmt.Errorf("after %d answers: got %q: %w", count-1, answer, err)
		}
		longest = max(longest, time.Since(asked))
		if count%answersPerLine == 0 {
			fmt.Println(count, longest.Milliseconds())
		}
		select {
		case err := <-ended:
			return err
		case <-time.After(time.Millisecond):
		}
	}
}
