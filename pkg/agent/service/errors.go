// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"netio.dev/netio/pkg/agent/attach"
	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/forwarder"
	"netio.dev/netio/pkg/agent/podnet"
	"netio.dev/netio/pkg/cni"
	"netio.dev/netio/pkg/ipam"
)

// errorCodes are what callers are told, by the first that fits: a gRPC code and
// one of the CNI specification, section 2 "Error".
var errorCodes = []struct {
	err  error
	grpc codes.Code
	cni  uint
}{
	{attachment.ErrInvalid, codes.InvalidArgument, types.ErrInvalidEnvironmentVariables},
	{podnet.ErrNoNetNS, codes.InvalidArgument, types.ErrInvalidEnvironmentVariables},
	{attach.ErrRequest, codes.InvalidArgument, types.ErrInvalidNetworkConfig},
	{attach.ErrElsewhere, codes.FailedPrecondition, types.ErrInvalidEnvironmentVariables},
	{attach.ErrUnknown, codes.NotFound, types.ErrUnknownContainer},
	{attach.ErrNotReady, codes.Unavailable, types.ErrTryAgainLater},
	{attach.ErrPool, codes.FailedPrecondition, types.ErrTryAgainLater},
	{attach.ErrDiffers, codes.FailedPrecondition, types.ErrInternal},
	{podnet.ErrDiffers, codes.FailedPrecondition, types.ErrInternal},
	{attach.ErrNoPort, codes.FailedPrecondition, types.ErrInternal},
	{ipam.ErrExhausted, codes.ResourceExhausted, types.ErrTryAgainLater},
	{ipam.ErrCooling, codes.Unavailable, types.ErrTryAgainLater},
	{ipam.ErrInUse, codes.FailedPrecondition, types.ErrInvalidNetworkConfig},
	{ipam.ErrNotInPool, codes.InvalidArgument, types.ErrInvalidNetworkConfig},
	{ipam.ErrReserved, codes.InvalidArgument, types.ErrInvalidNetworkConfig},
	{ipam.ErrOtherLease, codes.FailedPrecondition, types.ErrInvalidNetworkConfig},
	{ipam.ErrInvalid, codes.InvalidArgument, types.ErrInvalidNetworkConfig},
	{ipam.ErrClosed, codes.Unavailable, types.ErrTryAgainLater},
	{forwarder.ErrDown, codes.Unavailable, types.ErrTryAgainLater},
	{forwarder.ErrFailed, codes.Unavailable, types.ErrTryAgainLater},
	{forwarder.ErrStopped, codes.Unavailable, types.ErrTryAgainLater},
	{forwarder.ErrRefused, codes.FailedPrecondition, types.ErrInternal},
	{context.Canceled, codes.Canceled, types.ErrTryAgainLater},
	{context.DeadlineExceeded, codes.DeadlineExceeded, types.ErrTryAgainLater},
}

// cniError is the answer to a call that failed. Runtimes print it on one line.
func cniError(err error) error {
	for _, c := range errorCodes {
		if errors.Is(err, c.err) {
			return withCode(c.grpc, c.cni, err)
		}
	}
	return withCode(codes.Internal, types.ErrInternal, err)
}

// notAvailable and limited are answers to STATUS: an ADD would fail, or would
// make a pod that lacks connectivity. With the forwarder away the pods that run
// may be cut off too, which the specification wants to be told apart.
func notAvailable(err error) error {
	if errors.Is(err, forwarder.ErrDown) {
		return limited(err)
	}
	return withCode(codes.Unavailable, types.ErrPluginNotAvailable, err)
}

func limited(err error) error {
	return withCode(codes.Unavailable, types.ErrLimitedConnectivity, err)
}

func withCode(code codes.Code, cniCode uint, err error) error {
	s := status.New(code, strings.ReplaceAll(err.Error(), "\n", "; "))
	detailed, derr := s.WithDetails(&errdetails.ErrorInfo{
		Domain: cni.ErrorDomain, Metadata: map[string]string{cni.ErrorCodeKey: strconv.FormatUint(uint64(cniCode), 10)},
	})
	if derr != nil {
		return s.Err() // the code is one the plugin understands without
	}
	return detailed.Err()
}
