// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// Monitor is Observation.Monitor of the forwarder's control interface. The
// response header is sent as soon as events are recorded, so that a client can
// wait for that.
func (e *Events) Monitor(req *dataplanev1.MonitorRequest, stream grpc.ServerStreamingServer[dataplanev1.Event]) error {
	s, err := e.Subscribe(req.GetFilter())
	if err != nil {
		return statusOf(err)
	}
	defer s.Close()
	return pump(stream, s.Next)
}

// Capture is Observation.Capture of the forwarder's control interface. The
// response header is sent as soon as packets are captured, so that a client
// can wait for that.
func (c *Captures) Capture(req *dataplanev1.CaptureRequest, stream grpc.ServerStreamingServer[dataplanev1.CapturedPacket]) error {
	s, err := c.Open(req.GetPort(), req.GetSnapLength())
	if err != nil {
		return statusOf(err)
	}
	defer s.Close()
	return pump(stream, s.Next)
}

// pump sends what next returns until one of them fails.
func pump[T any](stream grpc.ServerStreamingServer[T], next func(context.Context) (*T, error)) error {
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	for {
		m, err := next(stream.Context())
		if err != nil {
			return statusOf(err)
		}
		if err := stream.Send(m); err != nil {
			return err
		}
	}
}

// statusOf gives an error of this package its gRPC code.
func statusOf(err error) error {
	code := codes.Internal
	for _, m := range []struct {
		is   error
		code codes.Code
	}{
		{ErrFilter, codes.InvalidArgument},
		{ErrNoPort, codes.NotFound},
		{ErrPortGone, codes.Aborted},
		{ErrBusy, codes.ResourceExhausted},
		{ErrClosed, codes.Unavailable},
		{context.Canceled, codes.Canceled},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
	} {
		if errors.Is(err, m.is) {
			code = m.code
			break
		}
	}
	return status.Error(code, err.Error())
}
