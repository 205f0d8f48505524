// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"netio.dev/netio/test/kind/probe"
)

// traffic is what must not notice a thing: connections that are held, to another node
// and to the same one, in both families, and others that are made all the time.
type traffic struct {
	held []*connection
	load *loading
	rate int
}

// startTraffic makes pods, and has them talk; so many connections a second are made.
func startTraffic(t *testing.T, namespace string, rate int) *traffic {
	t.Helper()
	first, last := under.Nodes[0], under.Nodes[len(under.Nodes)-1]
	startPod(t, namespace, "asks", first)
	startPod(t, namespace, "loads", first)
	startPod(t, namespace, "answers", last)
	startPod(t, namespace, "near", first)
	asks, loads, answers, near := awaitPod(t, namespace, "asks"), awaitPod(t, namespace, "loads"), awaitPod(t, namespace, "answers"), awaitPod(t, namespace, "near")
	f := &traffic{rate: rate}
	for range 2 {
		for _, to := range []pod{answers, near} {
			for _, a := range to.addrs {
				f.held = append(f.held, asks.hold(t, net.JoinHostPort(a.String(), to.port)))
			}
		}
	}
	f.load = loads.load(t, rate, net.JoinHostPort(answers.addrs[0].String(), answers.port))
	f.goesOn(t)
	t.Logf("%d connections held, %d a second made; before: the latest answer after %v", len(f.held), rate, f.stall())
	return f
}

// goesOn waits for answers on all that are held.
func (f *traffic) goesOn(t *testing.T) {
	t.Helper()
	for _, h := range f.held {
		h.goesOn(t)
	}
}

// stall is what the latest answer of all took so far.
func (f *traffic) stall() time.Duration {
	longest := int64(0)
	for _, h := range f.held {
		longest = max(longest, h.longest.Load())
	}
	return time.Duration(longest) * time.Millisecond
}

// end ends it: no connection may have broken, and none have failed.
func (f *traffic) end(t *testing.T) {
	t.Helper()
	f.goesOn(t)
	for _, h := range f.held {
		h.end(t)
	}
	got := f.load.end(t)
	t.Logf("%d connections made (%d a second asked for), %d failed; the slowest took %v; of those held the latest answer came after %v",
		got.OK, f.rate, got.Failed, got.Longest, f.stall())
	if got.Failed > 0 || got.OK == 0 {
		t.Errorf("%+v", got)
	}
}

// loading is a pod that makes connections until it is told to end.
type loading struct {
	stdin io.Closer
	out   bytes.Buffer
	err   chan error
}

// load makes a pod do so, at a rate a second.
func (p pod) load(t *testing.T, rate int, address string) *loading {
	t.Helper()
	r, w := io.Pipe()
	l := &loading{stdin: w, err: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() { l.err <- p.execute(ctx, r, &l.out, "/probe", "load", fmt.Sprint(rate), address) }()
	return l
}

func (l *loading) end(t *testing.T) (got probe.Load) {
	t.Helper()
	if err := l.stdin.Close(); err != nil {
		t.Error(err)
	}
	if err := <-l.err; err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(l.out.Bytes(), &got); err != nil {
		t.Fatalf("%v in %q", err, l.out.String())
	}
	return got
}
