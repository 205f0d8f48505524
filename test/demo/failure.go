// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
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

// killForwarder kills the worker process; the supervisor starts another, which
// takes over the device, the configuration and the connections.
func (d *demo) killForwarder(ctx context.Context) (string, error) {
	status, err := d.observation().Status(ctx, &dataplanev1.StatusRequest{})
	if err != nil {
		return "", fmt.Errorf("ask the forwarder: %w", err)
	}
	worker := int(status.GetPid())
	if children, err := daemon.Children(d.forwarder.Pid()); err != nil || !slices.Contains(children, worker) {
		return "", fmt.Errorf("worker %d is no child of the supervisor %d (%v, %v)", worker, d.forwarder.Pid(), children, err)
	}
	before, err := d.transfer.sink.Sample() // also begins a new Stall
	if err != nil {
		return "", err
	}
	if err := syscall.Kill(worker, syscall.SIGKILL); err != nil {
		return "", fmt.Errorf("kill worker %d: %w", worker, err)
	}
	after, err := d.awaitBytes(before, goOnBytes)
	if err != nil {
		return "", err
	}
	// The new worker listens some time after it forwards.
	restarted, err := d.observation().Status(ctx, &dataplanev1.StatusRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return "", fmt.Errorf("ask the new forwarder: %w", err)
	}
	if int(restarted.GetPid()) == worker || restarted.GetRestarts() != status.GetRestarts()+1 {
		return "", fmt.Errorf("worker %d, %d restarts; expected another than %d, and %d", restarted.GetPid(), restarted.GetRestarts(), worker, status.GetRestarts()+1)
	}
	if restarted.GetRevision() != status.GetRevision() {
		return "", fmt.Errorf("configuration %d in force; expected %d as before", restarted.GetRevision(), status.GetRevision())
	}
	gap := time.Duration(restarted.GetLastRestartGapNano())
	d.note("restart gap of the forwarder", "%s", milliseconds(gap))
	d.note("longest silence of a stream meanwhile", "%s", milliseconds(after.Stall))
	if after.Stall > maxStall {
		return "", fmt.Errorf("a stream was silent for %s; at most %s are allowed", milliseconds(after.Stall), milliseconds(maxStall))
	}
	return fmt.Sprintf("back after %s, longest silence of a stream %s, all %d go on",
		milliseconds(gap), milliseconds(after.Stall), after.Open), nil
}

// killAgent kills the control plane; packets do not notice.
func (d *demo) killAgent(context.Context) (string, error) {
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
	if _, err := awaitTrips(probe, requests/2); err != nil {
		return "", err
	}
	d.agent.Kill()
	s, err := awaitTrips(probe, requests)
	if err != nil {
		return "", err
	}
	if s.Lost > 0 || s.Errors > 0 {
		return "", fmt.Errorf("%d of %d requests were lost, %d failed", s.Lost, s.Packets+s.Lost, s.Errors)
	}
	if _, err := d.goOn(0); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d requests meanwhile, none lost; the transfer goes on", s.Packets), nil
}

// awaitTrips waits for so many more answers.
func awaitTrips(probe *load.Worker, more uint64) (load.Sample, error) {
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
		if time.Now().After(deadline) {
			return s, fmt.Errorf("%d answers in %v, expected %d; %d were lost", s.Packets-first.Packets, goOnPatience, more, s.Lost)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// restartAgent also proves that the agent knows its pods again: CHECK compares
// its records with the pods' interfaces.
func (d *demo) restartAgent(ctx context.Context) (string, error) {
	if err := d.runAgent(); err != nil {
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
