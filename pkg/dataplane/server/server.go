// SPDX-License-Identifier: Apache-2.0

// Package server is the forwarder's gRPC interface on a unix socket
// (pkg/dataplane/api/v1): it checks what the forwarder is told, keeps it on disk
// for the next start, and shows what the forwarder does.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
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
// file is a first start; a damaged one is moved aside and reported.
func (s *Server) Restore(ctx context.Context) error {
	if s.SnapshotPath == "" {
		return nil
	}
	snap, err := config.Load(s.SnapshotPath)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		aside := s.SnapshotPath + ".damaged"
		s.Logger.Error("saved configuration is unusable, waiting for a new one", "error", err, "kept", aside)
		if err := os.Rename(s.SnapshotPath, aside); err != nil {
			return fmt.Errorf("move damaged configuration aside: %w", err)
		}
		return nil
	}
	if err := config.Validate(snap); err != nil {
		return fmt.Errorf("saved configuration %s: %w", s.SnapshotPath, err)
	}
	_, err = s.Forwarder.Apply(ctx, snap, map[string]bool{})
	return err
}

// Apply implements Configuration.
func (s *Server) Apply(ctx context.Context, req *dataplanev1.ApplyRequest) (*dataplanev1.ApplyResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var (
		next  *dataplanev1.Snapshot
		named map[string]bool
	)
	switch change := req.GetChange().(type) {
	case *dataplanev1.ApplyRequest_Snapshot:
		next = change.Snapshot
	case *dataplanev1.ApplyRequest_Delta:
		var err error
		next, err = config.Merge(s.Forwarder.Snapshot(), change.Delta)
		if err != nil {
			return nil, config.Status(err)
		}
		named = map[string]bool{}
		for _, p := range change.Delta.GetPorts() {
			named[p.GetName()] = true
		}
	default:
		return nil, status.Error(codes.InvalidArgument, "the request has neither a snapshot nor a delta; send one of them")
	}
	if next == nil {
		return nil, status.Error(codes.InvalidArgument, "the request's snapshot is empty; send the configuration")
	}
	if err := config.ValidateUpdate(s.Forwarder.Snapshot(), next); err != nil {
		return nil, config.Status(err)
	}
	if err := immutable(s.Forwarder.Snapshot(), next); err != nil {
		return nil, err
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

// immutable refuses to change what a knet is made with: that would be another
// interface.
func immutable(old, next *dataplanev1.Snapshot) error {
	was := make(map[string]*dataplanev1.Port, len(old.GetPorts()))
	for _, p := range old.GetPorts() {
		was[p.GetName()] = p
	}
	for i, p := range next.GetPorts() {
		o := was[p.GetName()]
		if o == nil {
			continue
		}
		for _, c := range []struct {
			field    string
			old, new any
		}{
			{"ifname", o.GetIfname(), p.GetIfname()},
			{"netns", o.GetNetns(), p.GetNetns()},
			{"mtu", o.GetMtu(), p.GetMtu()},
		} {
			if c.old != c.new {
				return status.Errorf(codes.InvalidArgument,
					"ports[%d].%s of port %q cannot change from %v to %v: delete the port and add it again under another name", i, c.field, p.GetName(), c.old, c.new)
			}
		}
	}
	return nil
}

// Get implements Configuration.
func (s *Server) Get(context.Context, *dataplanev1.GetRequest) (*dataplanev1.Snapshot, error) {
	return s.Forwarder.Snapshot(), nil
}

// Serve listens on a unix socket, for root only, until ctx is done. A socket
// file that a dead process left is replaced.
func (s *Server) Serve(ctx context.Context, path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("restrict socket: %w", err), l.Close())
	}
	g := grpc.NewServer(grpc.MaxRecvMsgSize(256 << 20))
	dataplanev1.RegisterConfigurationServer(g, s)
	dataplanev1.RegisterObservationServer(g, s)
	stop := context.AfterFunc(ctx, g.Stop)
	defer stop()
	if err := g.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve %s: %w", path, err)
	}
	return nil
}
