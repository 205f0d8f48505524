// SPDX-License-Identifier: Apache-2.0

// Package forwardertest has a forwarder for tests of the agent: it checks its
// configuration as the real one does and makes interfaces, but forwards
// nothing.
package forwardertest

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"netio.dev/netio/pkg/agent/netnstest"
	"netio.dev/netio/pkg/agent/socket"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/config"
)

// Fake is a forwarder that can be stopped and started again. Its configuration
// and interfaces outlast that, as the real one's do, until Forget.
type Fake struct {
	dataplanev1.UnimplementedConfigurationServer
	dataplanev1.UnimplementedObservationServer

	t    testing.TB
	path string
	host string // network namespace of the host, "" for the test's own

	mu       sync.Mutex
	server   *grpc.Server
	snapshot *dataplanev1.Snapshot
	ports    map[string]port
	requests []*dataplanev1.ApplyRequest
	// before is asked before each Apply.
	before func(*dataplanev1.ApplyRequest) error
}

// port is a knet; without interfaces its file is nil.
type port struct {
	file  *os.File
	index int
	err   string
}

// Start serves a forwarder at the path of a socket until the test ends. With
// interfaces it makes them, those without namespace in the one at host.
func Start(t testing.TB, path, host string, interfaces bool) *Fake {
	f := &Fake{t: t, path: path, host: host, snapshot: &dataplanev1.Snapshot{}}
	if interfaces {
		f.ports = map[string]port{}
	}
	f.Run()
	t.Cleanup(func() {
		f.Stop()
		f.Forget()
	})
	return f
}

// Run serves again after Stop.
func (f *Fake) Run() {
	l, err := socket.Listen(f.path)
	if err != nil {
		f.t.Fatal(err)
	}
	g := grpc.NewServer()
	dataplanev1.RegisterConfigurationServer(g, f)
	dataplanev1.RegisterObservationServer(g, f)
	f.mu.Lock()
	f.server = g
	f.mu.Unlock()
	go func() { _ = g.Serve(l) }() // ends with Stop
}

// Stop ends the service in the middle of whatever it does.
func (f *Fake) Stop() {
	f.mu.Lock()
	g := f.server
	f.mu.Unlock()
	g.Stop()
}

// Forget loses configuration and interfaces.
func (f *Fake) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snapshot = &dataplanev1.Snapshot{}
	f.loseInterfaces()
}

// Remake loses the interfaces and makes them anew, as the start of a forwarder
// does whose device did not survive.
func (f *Fake) Remake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loseInterfaces()
	f.makePorts(f.snapshot)
}

func (f *Fake) loseInterfaces() {
	for name, p := range f.ports {
		if p.file != nil {
			p.file.Close()
		}
		delete(f.ports, name)
	}
}

// Before sets what is asked before each Apply: an error is the answer.
func (f *Fake) Before(ask func(*dataplanev1.ApplyRequest) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = ask
}

// Snapshot is the configuration in force.
func (f *Fake) Snapshot() *dataplanev1.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.snapshot
}

// Requests are all that was applied.
func (f *Fake) Requests() []*dataplanev1.ApplyRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// File is the end of a port's interface.
func (f *Fake) File(name string) *os.File {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ports[name].file
}

// Apply implements the Configuration service.
func (f *Fake) Apply(_ context.Context, req *dataplanev1.ApplyRequest) (*dataplanev1.ApplyResponse, error) {
	f.mu.Lock()
	before := f.before
	f.mu.Unlock()
	if before != nil {
		if err := before(req); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	next := req.GetSnapshot()
	named := map[string]bool{}
	if d := req.GetDelta(); d != nil {
		var err error
		next, err = config.Merge(f.snapshot, d)
		if errors.Is(err, config.ErrRevision) {
			return nil, status.Error(codes.Aborted, err.Error())
		}
		if err != nil {
			return nil, config.Status(err)
		}
		for _, p := range d.GetPorts() {
			named[p.GetName()] = true
		}
	} else {
		for _, p := range next.GetPorts() {
			named[p.GetName()] = true
		}
	}
	if err := config.Validate(next); err != nil {
		return nil, config.Status(err)
	}
	if err := f.immutable(next); err != nil {
		return nil, err
	}
	f.makePorts(next)
	f.snapshot = next
	f.requests = append(f.requests, req)
	resp := &dataplanev1.ApplyResponse{Revision: next.GetRevision()}
	for i, p := range next.GetPorts() {
		if named[p.GetName()] {
			made := f.ports[p.GetName()]
			resp.Ports = append(resp.Ports, &dataplanev1.PortState{Name: p.GetName(), Id: uint32(i + 1), Ifindex: int32(made.index), Error: made.err})
		}
	}
	return resp, nil
}

// immutable is the real forwarder's rule.
func (f *Fake) immutable(next *dataplanev1.Snapshot) error {
	was := map[string]*dataplanev1.Port{}
	for _, p := range f.snapshot.GetPorts() {
		was[p.GetName()] = p
	}
	for _, p := range next.GetPorts() {
		if o := was[p.GetName()]; o != nil && (o.GetIfname() != p.GetIfname() || o.GetNetns() != p.GetNetns() || o.GetMtu() != p.GetMtu()) {
			return status.Errorf(codes.InvalidArgument, "port %s cannot change; delete it and add it again", p.GetName())
		}
	}
	return nil
}

func (f *Fake) makePorts(next *dataplanev1.Snapshot) {
	if f.ports == nil {
		return
	}
	wanted := map[string]bool{}
	for _, p := range next.GetPorts() {
		wanted[p.GetName()] = true
		if made, ok := f.ports[p.GetName()]; !ok || made.err != "" {
			f.ports[p.GetName()] = f.make(p)
		}
	}
	for name, p := range f.ports {
		if !wanted[name] {
			if p.file != nil {
				p.file.Close()
			}
			delete(f.ports, name)
		}
	}
}

func (f *Fake) make(p *dataplanev1.Port) port {
	at := p.GetNetns()
	if at == "" {
		at = f.host
	}
	file, err := netnstest.TUN(at, p.GetIfname())
	if err != nil {
		return port{err: err.Error()}
	}
	made := port{file: file}
	err = netnstest.Do(at, func() error {
		link, err := netlink.LinkByName(p.GetIfname())
		if err == nil {
			made.index = link.Attrs().Index
		}
		return err
	})
	if err != nil {
		made.err = err.Error()
	}
	return made
}

// Get implements the Configuration service.
func (f *Fake) Get(context.Context, *dataplanev1.GetRequest) (*dataplanev1.Snapshot, error) {
	return f.Snapshot(), nil
}

// ListPorts implements the Observation service.
func (f *Fake) ListPorts(context.Context, *dataplanev1.ListPortsRequest) (*dataplanev1.ListPortsResponse, error) {
	resp := &dataplanev1.ListPortsResponse{}
	for i, p := range f.Snapshot().GetPorts() {
		resp.Ports = append(resp.Ports, &dataplanev1.PortStatus{Config: p, Id: uint32(i + 1), Up: true})
	}
	return resp, nil
}
