// SPDX-License-Identifier: Apache-2.0

// Package server is the forwarder's gRPC interface on a unix socket
// (pkg/dataplane/api/v1): it checks what the forwarder is told, keeps it on disk
// for the next start, and shows what the forwarder does.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/forward"
)

// Options of a server.
type Options struct {
	Forwarder *forward.Forwarder
	Device    device.Device
	// SnapshotPath is where the configuration is kept; "": it is not.
	SnapshotPath string
	// Started, Restarts and Gap are shown by Status.
	Started  time.Time
	Restarts int
	Gap      time.Duration
	Version  string
	Logger   *slog.Logger
}

// Server serves Configuration and Observation.
type Server struct {
	dataplanev1.UnimplementedConfigurationServer
	dataplanev1.UnimplementedObservationServer
	Options

	mu sync.Mutex // one change at a time, on disk as in the forwarder
}

// New makes a server.
func New(o Options) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{Options: o}
}

// Restore puts the configuration that the last process left in force. A missing
// file is a first start; one that is damaged, of another version or no longer
// valid is moved aside and reported: the forwarder waits for a new one then, and
// forwards nothing that it cannot be sure of.
func (s *Server) Restore(ctx context.Context) error {
	if s.SnapshotPath == "" {
		return nil
	}
	snap, err := config.Load(s.SnapshotPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = config.Validate(snap)
	}
	if err != nil {
		aside := s.SnapshotPath + ".damaged"
		s.Logger.Error("the saved configuration is unusable, waiting for a new one", "error", err, "kept", aside)
		if err := os.Rename(s.SnapshotPath, aside); err != nil {
			s.Logger.Error("keep the unusable configuration", "error", err)
		}
		return nil
	}
	_, err = s.Forwarder.Apply(ctx, snap, map[string]bool{})
	return err
}

// Apply implements Configuration.
func (s *Server) Apply(ctx context.Context, req *dataplanev1.ApplyRequest) (*dataplanev1.ApplyResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	base := s.Forwarder.Snapshot()
	next, named, err := change(base, req)
	if err == nil {
		err = config.ValidateUpdate(base, next)
	}
	if err == nil {
		err = checkKnets(base, next)
	}
	if err != nil {
		return nil, config.Status(err)
	}
	if err := s.checkUplinks(next); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	// A client that goes away must not leave the change half-made.
	ports, err := s.Forwarder.Apply(context.WithoutCancel(ctx), next, named)
	if err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	if s.SnapshotPath != "" {
		if err := config.Save(s.SnapshotPath, next); err != nil {
			// It is in force all the same; the next start would not know it.
			s.Logger.Error("save configuration", "error", err)
			return nil, status.Errorf(codes.Internal, "the configuration is in force but could not be saved for a restart: %v", err)
		}
	}
	return &dataplanev1.ApplyResponse{Revision: next.GetRevision(), Ports: ports}, nil
}

// change is what a request makes of the base, and the ports that it names; nil
// for all of them.
func change(base *dataplanev1.Snapshot, req *dataplanev1.ApplyRequest) (next *dataplanev1.Snapshot, named map[string]bool, err error) {
	switch c := req.GetChange().(type) {
	case *dataplanev1.ApplyRequest_Snapshot:
		if c.Snapshot != nil {
			return c.Snapshot, nil, nil
		}
		return nil, nil, mistake("snapshot", "is empty; send the configuration")
	case *dataplanev1.ApplyRequest_Delta:
		if c.Delta == nil {
			return nil, nil, mistake("delta", "is empty; send the change")
		}
		if next, err = config.Merge(base, c.Delta); err != nil {
			return nil, nil, err
		}
		named = map[string]bool{}
		for _, p := range c.Delta.GetPorts() {
			named[p.GetName()] = true
		}
		return next, named, nil
	}
	return nil, nil, mistake("change", "is neither a snapshot nor a delta; send one of them")
}

func mistake(field, description string) error {
	return &config.ValidationError{Violations: []config.Violation{{Field: field, Description: description}}}
}

// checkUplinks refuses uplinks where the device can have none.
func (s *Server) checkUplinks(next *dataplanev1.Snapshot) error {
	if _, ok := s.Device.(device.NICs); ok {
		return nil
	}
	for _, p := range next.GetPorts() {
		if p.GetKind() == dataplanev1.Port_UPLINK {
			return fmt.Errorf("uplink %s: %w", p.GetName(), device.ErrNoNICs)
		}
	}
	return nil
}

// portSort is what of a port's kind cannot change.
func portSort(p *dataplanev1.Port) string {
	if p.GetKind() == dataplanev1.Port_UPLINK {
		return "an uplink"
	}
	return "a knet"
}

// checkKnets refuses to change what a port is made with: that would be another
// interface.
func checkKnets(base, next *dataplanev1.Snapshot) error {
	was := make(map[string]*dataplanev1.Port, len(base.GetPorts()))
	for _, p := range base.GetPorts() {
		was[p.GetName()] = p
	}
	var list []config.Violation
	for i, p := range next.GetPorts() {
		o := was[p.GetName()]
		if o == nil || o == p {
			continue
		}
		for _, c := range []struct {
			field    string
			old, new any
		}{
			{"kind", portSort(o), portSort(p)},
			{"ifname", o.GetIfname(), p.GetIfname()},
			{"netns", o.GetNetns(), p.GetNetns()},
			{"mtu", cmp.Or(o.GetMtu(), defaultMTU), cmp.Or(p.GetMtu(), defaultMTU)},
		} {
			if c.old != c.new {
				list = append(list, config.Violation{
					Field:       fmt.Sprintf("ports[%d].%s", i, c.field),
					Description: fmt.Sprintf("port %q has %v and cannot change to %v; delete the port and add it again under another name", p.GetName(), c.old, c.new),
				})
			}
		}
	}
	if len(list) > 0 {
		return &config.ValidationError{Violations: list}
	}
	return nil
}

const defaultMTU = 1500 // of a port that says 0

// Get implements Configuration.
func (s *Server) Get(context.Context, *dataplanev1.GetRequest) (*dataplanev1.Snapshot, error) {
	return s.Forwarder.Snapshot(), nil
}

// Serve listens on a unix socket, for root only, until ctx is done. A socket
// file that a dead process left is replaced; ErrInUse if the process lives.
func (s *Server) Serve(ctx context.Context, path string) error {
	l, err := listen(ctx, path)
	if err != nil {
		return err
	}
	g := grpc.NewServer(grpc.MaxRecvMsgSize(maxRequest))
	dataplanev1.RegisterConfigurationServer(g, s)
	dataplanev1.RegisterObservationServer(g, s)
	stop := context.AfterFunc(ctx, g.Stop)
	defer stop()
	if err := g.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve %s: %w", path, err)
	}
	return nil
}

// maxRequest is the largest configuration in bytes.
const maxRequest = 256 << 20
