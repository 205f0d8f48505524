// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"netio.dev/netio/test/internal/load"
)

// Ports of web.
const (
	transferPort = 5001
	probePort    = 5002
	servicePort  = 8080
	measurePort  = 9000
)

const (
	transferStreams = 8
	// goOnBytes must arrive to believe that the transfer goes on.
	goOnBytes = 64 << 20
	// goOnPatience is longer than TCP's slowest retries here.
	goOnPatience = 10 * time.Second
)

// transfer is the flow from client to web whose bytes are checked.
type transfer struct {
	source, sink *load.Worker
}

func (d *demo) startTransfer(ctx context.Context) (string, error) {
	to := netip.AddrPortFrom(address(d.pod(web).addr, false), transferPort)
	d.transfer = new(transfer)
	var err error
	if d.transfer.sink, err = load.Start(d.pod(web).ns, load.Spec{Role: load.TCPSink, Address: to, Check: true}); err != nil {
		return "", err
	}
	d.transfer.source, err = load.Start(d.pod(client).ns, load.Spec{Role: load.TCPSource, Address: to, Streams: transferStreams, Check: true})
	if err != nil {
		return "", err
	}
	return d.goOn(ctx, time.Second)
}

func (d *demo) transferGoesOn(ctx context.Context) (string, error) { return d.goOn(ctx, 0) }

// goOn is satisfied when all streams are whole and enough bytes arrived, after
// at least a time.
func (d *demo) goOn(ctx context.Context, least time.Duration) (string, error) {
	first, err := d.transfer.sink.Sample()
	if err != nil {
		return "", err
	}
	time.Sleep(least)
	s, err := d.awaitBytes(ctx, first, goOnBytes)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%.1f Gbit/s", s.Since(first).BitsPerSecond/1e9), nil
}

// awaitBytes waits until so many more bytes than in a sample have arrived. Stall
// of what it returns is the longest silence meanwhile.
func (d *demo) awaitBytes(ctx context.Context, since load.Sample, bytes uint64) (load.Sample, error) {
	deadline := time.Now().Add(goOnPatience)
	stall := time.Duration(0)
	for {
		s, err := d.transfer.sink.Sample()
		if err != nil {
			return s, err
		}
		stall = max(stall, s.Stall)
		s.Stall = stall
		switch {
		case s.Ended > 0:
			return s, fmt.Errorf("%d of %d streams ended", s.Ended, transferStreams)
		case s.Errors > 0:
			return s, fmt.Errorf("%d times the bytes that arrived were not those that were sent", s.Errors)
		case s.Open == transferStreams && s.Bytes-since.Bytes >= bytes:
			return s, nil
		case ctx.Err() != nil:
			return s, errInterrupted
		case time.Now().After(deadline):
			return s, fmt.Errorf("%d streams are open and %d bytes arrived in %v; expected %d streams and %d bytes",
				s.Open, s.Bytes-since.Bytes, goOnPatience, transferStreams, bytes)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (d *demo) endTransfer(context.Context) (string, error) {
	s, err := d.transfer.sink.Sample()
	if err != nil {
		return "", err
	}
	if s.Ended > 0 || s.Errors > 0 {
		return "", fmt.Errorf("%d streams ended, %d mismatches", s.Ended, s.Errors)
	}
	if err := d.stopTransfer(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%.1f GB, every byte as sent", float64(s.Bytes)/1e9), nil
}

// stopTransfer may be called at any time, and again.
func (d *demo) stopTransfer() error {
	t := d.transfer
	d.transfer = nil
	if t == nil {
		return nil
	}
	var err error
	for _, w := range []*load.Worker{t.source, t.sink} {
		if w != nil {
			err = errors.Join(err, w.Stop())
		}
	}
	return err
}
