// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/test/internal/daemon"
	"netio.dev/netio/test/internal/netlab"
)

// netio joins the pods by a NetIO forwarder with all stages on and the policy
// of the nftables topology, configured by its gRPC interface. It runs in a
// namespace of its own:
//
//	a eth0 ══ knet  forwarder  knet ══ eth0 b
type netio struct {
	forwarderOptions
	device string

	pods   pair
	daemon *daemon.Daemon
	conn   *grpc.ClientConn
}

// forwarderOptions are those of all of NetIO's topologies.
type forwarderOptions struct {
	agent string        // path of netio-agent
	poll  time.Duration // 0: as it chooses
}

const (
	// rpcTimeout bounds a call to the forwarder.
	rpcTimeout = 30 * time.Second
	// startTimeout bounds its start, on an emulated CPU.
	startTimeout = 2 * time.Minute
)

func (t *netio) setup() (p pair, err error) {
	number := byte(5)
	if t.device == "soft" {
		number = 6
	}
	if p, err = newPair(t.device, number); err != nil {
		return p, err
	}
	t.pods = p
	runDir := filepath.Join("/run/netio", t.device)
	if err := os.MkdirAll(runDir, 0o700); err != nil {
		return p, fmt.Errorf("make run directory: %w", err)
	}
	args := []string{"forward", "--run-dir", runDir, "--device", t.device}
	if t.poll > 0 {
		args = append(args, "--poll", t.poll.String())
	}
	t.daemon, err = daemon.Start(p.between, filepath.Join(runDir, "log"), t.agent, args...)
	if err != nil {
		return p, err
	}
	socket := filepath.Join(runDir, "forwarder.sock")
	if err := t.daemon.WaitSocket(socket, startTimeout); err != nil {
		return p, err
	}
	t.conn, err = grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return p, fmt.Errorf("connect to the forwarder: %w", err)
	}
	if err := t.configure(); err != nil {
		return p, err
	}
	for _, s := range p.sides() {
		for _, a := range s.pod.addresses() {
			if err := s.ns.Up("eth0", netlab.Host(a)); err != nil {
				return p, err
			}
			if err := s.ns.Route(netlab.Default(a), netip.Addr{}, "eth0"); err != nil {
				return p, err
			}
		}
	}
	return p, nil
}

func (t *netio) configure() error {
	sets, policies := newPolicy(t.pods.a, t.pods.b).dataplane()
	snapshot := &dataplanev1.Snapshot{
		Revision:    1,
		Settings:    &dataplanev1.Settings{Ipv4: "169.254.0.1", Ipv6: "fe80::1"},
		AddressSets: sets,
		Policies:    policies,
	}
	for i, s := range t.pods.sides() {
		name := string(rune('a' + i))
		port := &dataplanev1.Port{
			Name: name, Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: s.ns.Path, Mtu: 1500, Policies: []string{name},
		}
		service := 0
		for _, a := range s.pod.addresses() {
			port.Addresses = append(port.Addresses, a.String())
			// Address translation is on, though not for what is measured.
			front := []string{"198.51.100.1", "2001:db8:1::1"}[service]
			service++
			snapshot.DestinationNats = append(snapshot.DestinationNats, &dataplanev1.DestinationNat{
				Name: fmt.Sprintf("%s%d", name, service), Address: front, Protocol: 17, Port: uint32(80 + i),
				Backends: []*dataplanev1.Backend{{Address: a.String(), Port: firstPort}},
			})
		}
		snapshot.SourceNats = append(snapshot.SourceNats, &dataplanev1.SourceNat{
			Name: name, Source: netlab.Host(s.pod.ipv4).String(), DestinationsExcept: []string{"10.0.0.0/8"}, Addresses: []string{"192.0.2.1"},
		})
		snapshot.Ports = append(snapshot.Ports, port)
	}
	ctx, cancel := context.WithTimeout(context.Background(), rpcTimeout)
	defer cancel()
	response, err := dataplanev1.NewConfigurationClient(t.conn).Apply(ctx,
		&dataplanev1.ApplyRequest{Change: &dataplanev1.ApplyRequest_Snapshot{Snapshot: snapshot}})
	if err != nil {
		return fmt.Errorf("configure the forwarder: %w", err)
	}
	for _, p := range response.GetPorts() {
		if p.GetError() != "" {
			return fmt.Errorf("configure the forwarder: port %s: %s", p.GetName(), p.GetError())
		}
	}
	return nil
}

// forwarder is the supervisor's worker.
func (t *netio) forwarder() (int, error) {
	children, err := daemon.Children(t.daemon.Pid())
	if err == nil && len(children) != 1 {
		err = fmt.Errorf("the forwarder has %d workers", len(children))
	}
	if err != nil {
		return 0, err
	}
	return children[0], nil
}

func (t *netio) lanes() ([]*dataplanev1.LaneStatus, error) {
	ctx, cancel := context.WithTimeout(context.Background(), rpcTimeout)
	defer cancel()
	status, err := dataplanev1.NewObservationClient(t.conn).Status(ctx, &dataplanev1.StatusRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask the forwarder: %w", err)
	}
	return status.GetLanes(), nil
}

// copied is not counted by the soft device: there all is copied, by system calls.
func (t *netio) copied() (uint64, bool, error) {
	if t.device == "soft" {
		return 0, false, nil
	}
	lanes, err := t.lanes()
	bytes := uint64(0)
	for _, lane := range lanes {
		bytes += lane.GetPayloadCopied()
	}
	return bytes, err == nil, err
}

func (t *netio) stop() error {
	var err error
	if t.conn != nil {
		err = t.conn.Close()
	}
	if t.daemon != nil {
		err = errors.Join(err, t.daemon.Stop())
	}
	return err
}
