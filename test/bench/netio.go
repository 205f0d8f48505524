// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
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
	bin    string // folder of the programs
	device string
	runDir string

	forwarder *daemon.Daemon
	conn      *grpc.ClientConn
}

// rpcTimeout bounds a call to the forwarder.
const rpcTimeout = 10 * time.Second

func (t *netio) Name() string { return "netio" }

func (t *netio) Setup() (Pair, error) {
	a, b, between, err := namespaces(t.Name())
	if err != nil {
		return Pair{}, err
	}
	pair := Pair{A: a, B: b}
	pair.AAddr, _, pair.BAddr, _ = addresses(4)

	if err := os.MkdirAll(t.runDir, 0o700); err != nil {
		return Pair{}, fmt.Errorf("make run directory: %w", err)
	}
	t.forwarder, err = daemon.Start(between, filepath.Join(t.runDir, "forwarder.log"),
		filepath.Join(t.bin, "netio-agent"), "forward", "--run-dir", t.runDir, "--device", t.device)
	if err != nil {
		return Pair{}, err
	}
	socket := filepath.Join(t.runDir, "forwarder.sock")
	if err := t.forwarder.WaitSocket(socket, 30*time.Second); err != nil {
		return Pair{}, err
	}
	t.conn, err = grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return Pair{}, fmt.Errorf("connect to the forwarder: %w", err)
	}
	if err := t.configure(pair); err != nil {
		return Pair{}, err
	}
	for _, side := range []struct {
		ns   *netlab.Namespace
		addr netip.Addr
	}{{a, pair.AAddr}, {b, pair.BAddr}} {
		if err := side.ns.Up("eth0", netlab.Host(side.addr)); err != nil {
			return Pair{}, err
		}
		if err := side.ns.Route(netlab.Default(side.addr), netip.Addr{}, "eth0"); err != nil {
			return Pair{}, err
		}
	}
	return pair, nil
}

func (t *netio) configure(pair Pair) error {
	sets, policies := newPolicy(pair.AAddr, pair.BAddr).dataplane()
	port := func(name string, ns *netlab.Namespace, addr netip.Addr) *dataplanev1.Port {
		return &dataplanev1.Port{
			Name: name, Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: ns.Path, Mtu: 1500,
			Addresses: []string{addr.String()}, Policies: []string{name},
		}
	}
	snapshot := &dataplanev1.Snapshot{
		Revision:    1,
		Settings:    &dataplanev1.Settings{Ipv4: "169.254.0.1", Ipv6: "fe80::1"},
		Ports:       []*dataplanev1.Port{port("a", pair.A, pair.AAddr), port("b", pair.B, pair.BAddr)},
		AddressSets: sets,
		Policies:    policies,
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

// Processes are the supervisor and its worker.
func (t *netio) Processes() ([]int, error) {
	children, err := daemon.Children(t.forwarder.Pid())
	if err != nil {
		return nil, err
	}
	return append(children, t.forwarder.Pid()), nil
}

func (t *netio) Counters() (Counters, error) {
	ctx, cancel := context.WithTimeout(context.Background(), rpcTimeout)
	defer cancel()
	status, err := dataplanev1.NewObservationClient(t.conn).Status(ctx, &dataplanev1.StatusRequest{})
	if err != nil {
		return Counters{}, fmt.Errorf("ask the forwarder: %w", err)
	}
	var c Counters
	for _, lane := range status.GetLanes() {
		c.Packets += lane.GetRxPackets()
		c.Syscalls += lane.GetSyscalls()
	}
	return c, nil
}

func (t *netio) Log() string {
	if t.forwarder == nil {
		return ""
	}
	return "\nforwarder: " + t.forwarder.Log()
}

func (t *netio) Stop() error {
	if t.conn != nil {
		_ = t.conn.Close()
	}
	if t.forwarder == nil {
		return nil
	}
	return t.forwarder.Stop()
}
