// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"fmt"
	"strconv"

	"github.com/containernetworking/cni/pkg/types"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrorDomain is the domain of the google.rpc.ErrorInfo by which the agent gives
// a CNI error code, in decimal under ErrorCodeKey of its metadata.
const (
	ErrorDomain  = "cni"
	ErrorCodeKey = "code"
)

// fail makes an error that the runtime gets to see. CNI runtimes print its
// message and details on one line, so everything is in the message.
func fail(code uint, format string, a ...any) *types.Error {
	return types.NewError(code, fmt.Sprintf(format, a...), "")
}

// agentCode is the CNI error code that the agent gave, if it gave one.
func agentCode(st *status.Status) (uint, bool) {
	for _, d := range st.Details() {
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok || info.GetDomain() != ErrorDomain {
			continue
		}
		n, err := strconv.ParseUint(info.GetMetadata()[ErrorCodeKey], 10, 31)
		if err == nil && n > 0 {
			return uint(n), true
		}
	}
	return 0, false
}

// answered tells whether err is certainly the agent's own answer, after which
// nothing is left of an Add. gRPC makes errors of the other codes itself when a
// call ends early or its answer cannot be read.
func answered(err error) bool {
	st := status.Convert(err)
	if _, ok := agentCode(st); ok {
		return true
	}
	switch st.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.Internal, codes.Unknown, codes.ResourceExhausted:
		return false
	}
	return true
}

// away tells whether the agent could not see to the call, now.
func away(err error) bool {
	switch status.Code(err) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.ResourceExhausted, codes.Aborted:
		return true
	}
	return false
}

// rpcError makes a runtime's error of a failed call.
func (c *config) rpcError(err error) *types.Error {
	st := status.Convert(err)
	if code, ok := agentCode(st); ok {
		return fail(code, "netio-agent: %s", st.Message())
	}
	switch st.Code() {
	case codes.DeadlineExceeded:
		return fail(types.ErrTryAgainLater, "netio-agent at %s did not finish within %s (timeoutSeconds); try again", c.socket, c.timeout)
	case codes.Canceled:
		return fail(types.ErrTryAgainLater, "interrupted while waiting for netio-agent; try again")
	case codes.Unavailable, codes.ResourceExhausted, codes.Aborted:
		return fail(types.ErrTryAgainLater, "netio-agent at %s: %s; try again", c.socket, st.Message())
	case codes.InvalidArgument:
		return fail(types.ErrInvalidNetworkConfig, "netio-agent: %s", st.Message())
	case codes.Unimplemented:
		return fail(types.ErrInternal, "netio-agent at %s is not of this plugin's version (%s); install both from one release", c.socket, st.Message())
	}
	return fail(types.ErrInternal, "netio-agent: %s", st.Message())
}
