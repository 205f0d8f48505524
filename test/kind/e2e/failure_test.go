// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"netio.dev/netio/test/kind/node"
)

// TestKills: a connection between pods of two nodes goes on while processes of
// NetIO are killed on both, and pods come up afterwards.
func TestKills(t *testing.T) {
	namespace := newNamespace(t)
	first, last := under.Nodes[0], under.Nodes[len(under.Nodes)-1]
	startPod(t, namespace, "asks", first)
	startPod(t, namespace, "answers", last)
	asks, answers := awaitPod(t, namespace, "asks"), awaitPod(t, namespace, "answers")
	for i, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) {
			held := asks.hold(t, net.JoinHostPort(answers.addrs[i].String(), answers.port))
			held.goesOn(t)
			for _, victim := range []string{node.AgentSocket, node.ForwarderSocket} {
				for _, n := range []string{first.Name, last.Name} {
					killListener(t, nodePath(t, n, victim))
					held.goesOn(t)
				}
			}
			held.end(t)
		})
	}
	startPod(t, namespace, "late", last)
	late := awaitPod(t, namespace, "late")
	got, err := late.reach(t.Context(), asks.targets()...)
	if err != nil {
		t.Fatal(err)
	}
	for target, a := range got {
		if err := checkDirect(late, asks, a); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
}

// connection is one over which a pod asks until it is told to end.
type connection struct {
	stdin io.Closer
	// answers is how many there were when it was last told.
	answers atomic.Int64
	// longest is how many milliseconds the latest of them took.
	longest atomic.Int64
	// broken is closed when it has ended; then err is why, nil if it was told to.
	broken chan struct{}
	err    error
}

// hold opens a connection from a pod.
func (p pod) hold(t *testing.T, address string) *connection {
	t.Helper()
	inRead, inWrite := io.Pipe()
	outRead, outWrite := io.Pipe()
	c := &connection{stdin: inWrite, broken: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	executed := make(chan error, 1)
	go func() {
		err := p.execute(ctx, inRead, outWrite, "/probe", "hold", address)
		_ = outWrite.Close()
		executed <- err
	}()
	go func() {
		for lines := bufio.NewScanner(outRead); lines.Scan(); {
			var answers, longest int64
			if _, err := fmt.Sscan(lines.Text(), &answers, &longest); err == nil {
				c.longest.Store(longest)
				c.answers.Store(answers)
			}
		}
		c.err = <-executed
		close(c.broken)
	}()
	return c
}

// goesOn waits for answers to questions that were asked after the call: a
// hundred is many more than can be on their way.
func (c *connection) goesOn(t *testing.T) {
	t.Helper()
	before := c.answers.Load()
	await(t, "answers", func(context.Context) error {
		select {
		case <-c.broken:
			t.Fatalf("the connection broke after %d answers: %v", c.answers.Load(), c.err)
		default:
		}
		if now := c.answers.Load(); now < before+100 {
			return fmt.Errorf("%d more", now-before)
		}
		return nil
	})
}

// end closes the connection; it must not have had an error.
func (c *connection) end(t *testing.T) {
	t.Helper()
	if err := c.stdin.Close(); err != nil {
		t.Error(err)
	}
	<-c.broken
	if c.err != nil {
		t.Fatalf("after %d answers: %v", c.answers.Load(), c.err)
	}
	t.Logf("%d answers over one connection, the latest after %d ms", c.answers.Load(), c.longest.Load())
}
