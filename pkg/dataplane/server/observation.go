// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// Status implements Observation.
func (s *Server) Status(ctx context.Context, _ *dataplanev1.StatusRequest) (*dataplanev1.StatusResponse, error) {
	st, err := s.Forwarder.Status(ctx)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	st.Version = s.Version
	st.StartedUnixNano = s.Started.UnixNano()
	st.Restarts = uint32(s.Restarts)
	st.LastRestartGapNano = int64(s.Gap)
	st.AbiVersion = abi.VersionString(s.Device.Area().Header().ABIVersion)
	if c, ok := s.Device.(interface{ SyscallCount(int) uint64 }); ok {
		for _, l := range st.Lanes {
			l.Syscalls = c.SyscallCount(int(l.Lane))
		}
	}
	return st, nil
}

// ListPorts implements Observation.
func (s *Server) ListPorts(ctx context.Context, _ *dataplanev1.ListPortsRequest) (*dataplanev1.ListPortsResponse, error) {
	ports, err := s.Forwarder.Ports(ctx)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &dataplanev1.ListPortsResponse{Ports: ports}, nil
}

// ListFlows implements Observation.
func (s *Server) ListFlows(req *dataplanev1.ListFlowsRequest, stream grpc.ServerStreamingServer[dataplanev1.Flow]) error {
	return s.Forwarder.Flows(stream.Context(), req.GetFilter(), int(req.GetLimit()), stream.Send)
}

// ListDrops implements Observation.
func (s *Server) ListDrops(ctx context.Context, req *dataplanev1.ListDropsRequest) (*dataplanev1.ListDropsResponse, error) {
	drops, err := s.Forwarder.Drops(ctx, req.GetPort())
	if err != nil {
		return nil, err
	}
	return &dataplanev1.ListDropsResponse{Drops: drops}, nil
}

// Explain implements Observation.
func (s *Server) Explain(ctx context.Context, req *dataplanev1.ExplainRequest) (*dataplanev1.ExplainResponse, error) {
	return s.Forwarder.Explain(ctx, req)
}

// Monitor implements Observation.
func (s *Server) Monitor(req *dataplanev1.MonitorRequest, stream grpc.ServerStreamingServer[dataplanev1.Event]) error {
	return s.Forwarder.Events.Monitor(req, stream)
}

// Capture implements Observation.
func (s *Server) Capture(req *dataplanev1.CaptureRequest, stream grpc.ServerStreamingServer[dataplanev1.CapturedPacket]) error {
	return s.Forwarder.Captures.Capture(req, stream)
}

// Trace implements Observation.
func (s *Server) Trace(ctx context.Context, req *dataplanev1.TraceRequest) (*dataplanev1.TraceResponse, error) {
	return s.Forwarder.Trace(ctx, req)
}
