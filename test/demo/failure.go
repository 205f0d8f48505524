// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"google.golang.org/grpc"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/test/internal/daemon"
	"netio.dev/netio/test/internal/load"
)

// killForwarder kills the worker process, the first time or more often; the
// supervisor starts another, which takes over the device, the configuration and the
// connections. How long that may take is not judged here: it is shown.
func (d *demo) killForwarder(ctx context.Context) (string, error) {
	var gap, silence time.Duration
	for range d.kills {
		g, s, err := d.killWorker(ctx)
		if err != nil {
			return "", err
		}
		gap, silence = max(gap, g), max(silence, s)
	}
	d.note("restart gap of the forwarder", "%s", milliseconds(gap))
	d.note("longest silence of a stream meanwhile", "%s", milliseconds(silence))
	times := ""
	if d.kills > 1 {
		times = fmt.Sprintf("%d times: ", d.kills)
	}
	return fmt.Sprintf("%sback after %s, longest silence of a stream %s, all %d go on",
		times, milliseconds(gap), milliseconds(silence), transferStreams), nil
}

// killWorker returns how long nobody forwarded, and the longest time that a
// stream of the transfer was silent.
func (d *demo) killWorker(ctx context.Context) (gap, silence time.Duration, err error) {
	before, err := d.observation().Status(ctx, &dataplanev1.StatusRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return 0, 0, fmt.Errorf("ask the forwarder: %w", err)
	}
	worker := int(before.GetPid())
	if children, err := daemon.Children(d.forwarder.Pid()); err != nil || !slices.Contains(children, worker) {
		return 0, 0, fmt.Errorf("worker %d is no child of the supervisor %d (%v, %v)", worker, d.forwarder.Pid(), children, err)
	}
	first, err := d.transfer.sink.Sample() // also begins a new Stall
	if err != nil {
		return 0, 0, err
	}
	if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
		return 0, 0, fmt.Errorf("kill worker %d: %w", worker, err)
	}
	last, err := d.awaitBytes(ctx, first, goOnBytes)
	if err != nil {
		return 0, 0, err
	}
	after, err := d.awaitWorker(ctx, worker)
	if err != nil {
		return 0, 0, err
	}
	if after.GetRestarts() != before.GetRestarts()+1 || after.GetRevision() != before.GetRevision() {
		return 0, 0, fmt.Errorf("restart %d with configuration %d; expected restart %d with configuration %d, as before",
			after.GetRestarts(), after.GetRevision(), before.GetRestarts()+1, before.GetRevision())
	}
	return time.Duration(after.GetLastRestartGapNano()), last.Stall, nil
}

// awaitWorker waits until another worker answers: it forwards some time before
// it listens.
func (d *demo) awaitWorker(ctx context.Context, old int) (*dataplanev1.StatusResponse, error) {
	deadline := time.Now().Add(goOnPatience)
	for {
		status, err := d.observation().Status(ctx, &dataplanev1.StatusRequest{})
		switch {
		case err == nil && int(status.GetPid()) != old:
			return status, nil
		case ctx.Err() != nil:
			return nil, errInterrupted
		case time.Now().After(deadline):
			return nil, fmt.Errorf("no new worker answers after %v: %w", goOnPatience, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// killAgent kills the control plane; packets do not notice.
func (d *demo) killAgent(ctx context.Context) (string, error) {
	to := netip.AddrPortFrom(address(d.pod(client).addr, true), probePort)
	echo, err := load.Start(d.pod(client).ns, load.Spec{Role: load.Echo, Address: to})
	if err != nil {
		return "", err
	}
	defer echo.Stop()
	probe, err := load.Start(d.pod(web).ns, load.Spec{Role: load.Probe, Address: to, Payload: 64, Interval: time.Millisecond})
	if err != nil {
		return "", err
	}
	defer probe.Stop()

	const requests = 200
	if _, err := awaitTrips(ctx, probe, requests/2); err != nil {
		return "", err
	}
	d.agent.Kill()
	s, err := awaitTrips(ctx, probe, requests)
	if err != nil {
		return "", err
	}
	if s.Lost > 0 || s.Errors > 0 {
		drops, _, err := d.netioctl(ctx, "drops")
		return "", errors.Join(fmt.Errorf("%d of %d requests were lost, %d failed\n%s", s.Lost, s.Packets+s.Lost, s.Errors, drops), err)
	}
	if _, err := d.goOn(ctx, 0); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d requests meanwhile, none lost; the transfer goes on", s.Packets), nil
}

// awaitTrips waits for so many more answers.
func awaitTrips(ctx context.Context, probe *load.Worker, more uint64) (load.Sample, error) {
	first, err := probe.Sample()
	if err != nil {
		return first, err
	}
	deadline := time.Now().Add(goOnPatience)
	for {
		s, err := probe.Sample()
		if err != nil || s.Packets-first.Packets >= more {
			return s, err
		}
		if ctx.Err() != nil {
			return s, errInterrupted
		}
		if time.Now().After(deadline) {
			return s, fmt.Errorf("%d answers in %v, expected %d; %d were lost", s.Packets-first.Packets, goOnPatience, more, s.Lost)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// restartAgent also proves that the agent knows its pods again: CHECK compares
// its records with the pods' interfaces.
func (d *demo) restartAgent(ctx context.Context) (string, error) {
	if err := d.runAgent(ctx); err != nil {
		return "", err
	}
	for _, p := range d.pods {
		if err := d.runtime.check(ctx, p); err != nil {
			return "", fmt.Errorf("pod %s: %w", p.name, err)
		}
	}
	return fmt.Sprintf("it knows its %d pods", len(d.pods)), nil
}

func milliseconds(t time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(t.Microseconds())/1000)
}
