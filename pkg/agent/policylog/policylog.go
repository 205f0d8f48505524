// SPDX-License-Identifier: Apache-2.0

// Package policylog writes what policy rules ask to be logged (`log: true`) into
// the agent's log: a line for the first packet of each connection that such a
// rule had a say in, and for each packet that it kept out.
package policylog

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"time"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// retry is the pause after a stream broke off: the forwarder restarts in
// milliseconds.
const retry = 100 * time.Millisecond

// Log follows the forwarder's verdicts while any rule asks for it.
type Log struct {
	observation dataplanev1.ObservationClient
	log         *slog.Logger
	want        chan bool
}

// New makes a log of what a forwarder reports.
func New(observation dataplanev1.ObservationClient, log *slog.Logger) *Log {
	return &Log{observation: observation, log: log, want: make(chan bool, 1)}
}

// Want tells whether any rule asks for it. It does not wait for Run, and may be
// called from one goroutine at a time.
func (l *Log) Want(on bool) {
	select {
	case <-l.want: // superseded
	default:
	}
	l.want <- on
}

// Run writes until ctx ends.
func (l *Log) Run(ctx context.Context) {
	stop := func() {}
	defer func() { stop() }()
	for following := false; ; {
		select {
		case <-ctx.Done():
			return
		case on := <-l.want:
			if on == following {
				continue
			}
			stop()
			stop = func() {}
			if following = on; on {
				stop = l.start(ctx)
			}
		}
	}
}

// start follows in the background; stop returns when that has ended.
func (l *Log) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			l.follow(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(retry):
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// follow writes until the stream breaks off. That the forwarder is away others
// report.
func (l *Log) follow(ctx context.Context) {
	stream, err := l.observation.Monitor(ctx, &dataplanev1.MonitorRequest{Filter: &dataplanev1.Filter{Logged: true}})
	if err != nil {
		return
	}
	for {
		ev, err := stream.Recv()
		if err != nil {
			return
		}
		l.write(ctx, ev)
	}
}

func (l *Log) write(ctx context.Context, ev *dataplanev1.Event) {
	if n := ev.GetLost(); n > 0 {
		l.log.LogAttrs(ctx, slog.LevelWarn, "policy verdicts came too fast to be logged", slog.Uint64("lost", n))
	}
	if ev.GetVerdict() == "" {
		return
	}
	t := ev.GetTuple()
	attrs := []slog.Attr{slog.String("verdict", ev.GetVerdict())}
	if ev.GetRule() != "" {
		attrs = append(attrs, slog.String("rule", ev.GetRule()))
	}
	source, destination := t.GetSrc(), t.GetDst()
	switch t.GetProtocol() {
	case 6, 17, 132:
		source, destination = join(source, t.GetSrcPort()), join(destination, t.GetDstPort())
	}
	attrs = append(attrs, slog.String("protocol", protocol(t)), slog.String("source", source), slog.String("destination", destination))
	for _, p := range []struct{ name, port string }{{"from", ev.GetInPort()}, {"to", ev.GetOutPort()}} {
		if p.port != "" {
			attrs = append(attrs, slog.String(p.name, p.port))
		}
	}
	l.log.LogAttrs(ctx, slog.LevelInfo, "policy", attrs...)
}

func join(address string, port uint32) string {
	return net.JoinHostPort(address, strconv.FormatUint(uint64(port), 10))
}

// protocol is its name; of ICMP with type and code.
func protocol(t *dataplanev1.Tuple) string {
	switch p := t.GetProtocol(); p {
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 132:
		return "sctp"
	case 1, 58:
		name := "icmp "
		if p == 58 {
			name = "icmpv6 "
		}
		return name + strconv.Itoa(int(t.GetDstPort()>>8)) + "/" + strconv.Itoa(int(t.GetDstPort()&0xff))
	default:
		return strconv.Itoa(int(p))
	}
}
