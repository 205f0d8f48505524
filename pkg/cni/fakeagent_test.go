// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"strconv"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
)

// fakeAgent answers as it is told and records what it was asked.
type fakeAgent struct {
	agentv1.UnimplementedCNIServer
	t      *testing.T
	server *grpc.Server

	mu    sync.Mutex
	add   addFunc          // nil: answer
	fail  map[string]error // by method
	calls []string
	last  map[string]proto.Message
}

type addFunc func(context.Context, *agentv1.AddRequest) (*agentv1.AddResponse, error)

// adds replaces the usual answer to Add.
func (f *fakeAgent) adds(add addFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add = add
}

// fails makes a method ("Del") fail from now on, or not, with nil.
func (f *fakeAgent) fails(method string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail[method] = err
}

func startAgent(b *bed) *fakeAgent {
	b.t.Helper()
	f := &fakeAgent{t: b.t, server: grpc.NewServer(), fail: map[string]error{}, last: map[string]proto.Message{}}
	l, err := net.Listen("unix", b.socket)
	if err != nil {
		b.t.Fatal(err)
	}
	agentv1.RegisterCNIServer(f.server, f)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.server.Serve(l)
	}()
	b.t.Cleanup(func() {
		f.server.Stop()
		<-done
	})
	return f
}

// cniError is an error as the agent makes it.
func cniError(c codes.Code, cni int, msg string) error {
	st, err := status.New(c, msg).WithDetails(&errdetails.ErrorInfo{
		Domain: ErrorDomain, Metadata: map[string]string{ErrorCodeKey: strconv.Itoa(cni)},
	})
	if err != nil {
		panic(err)
	}
	return st.Err()
}

func (f *fakeAgent) record(method string, id *agentv1.AttachmentID, req proto.Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	what := method
	if id != nil {
		what += fmt.Sprintf(" %s/%s/%s", id.GetNetwork(), id.GetContainerId(), id.GetIfname())
	}
	f.calls = append(f.calls, what)
	f.last[method] = req
	return f.fail[method]
}

// was checks what the agent was asked since the last time.
func (f *fakeAgent) was(want ...string) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.calls) != len(want) || len(want) > 0 && !reflect.DeepEqual(f.calls, want) {
		f.t.Errorf("the agent was asked %q, want %q", f.calls, want)
	}
	f.calls = nil
}

// asked checks the last request of a method.
func (f *fakeAgent) asked(method string, want proto.Message) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if got := f.last[method]; !proto.Equal(got, want) {
		f.t.Errorf("%s was asked with\n%v\nwant\n%v", method, got, want)
	}
}

func (f *fakeAgent) Add(ctx context.Context, req *agentv1.AddRequest) (*agentv1.AddResponse, error) {
	if err := f.record("Add", req.GetId(), req); err != nil {
		return nil, err
	}
	f.mu.Lock()
	add := f.add
	f.mu.Unlock()
	if add != nil {
		return add(ctx, req)
	}
	return answer(req), nil
}

func answer(req *agentv1.AddRequest) *agentv1.AddResponse {
	return &agentv1.AddResponse{
		Ifname: req.GetId().GetIfname(), Ifindex: 7, Netns: req.GetNetns(), Mtu: 1450,
		Addresses: []*agentv1.AddressConfig{
			{Address: "10.244.0.5/32", Gateway: "10.244.0.1"},
			{Address: "fd00:10:244::5/128", Gateway: "fd00:10:244::1"},
		},
		Routes: []*agentv1.RouteConfig{
			{Destination: "10.244.0.1/32"},
			{Destination: "0.0.0.0/0", Gateway: "10.244.0.1"},
			{Destination: "::/0", Gateway: "fd00:10:244::1"},
		},
	}
}

func (f *fakeAgent) Del(_ context.Context, req *agentv1.DelRequest) (*agentv1.DelResponse, error) {
	return &agentv1.DelResponse{}, f.record("Del", req.GetId(), req)
}

func (f *fakeAgent) Check(_ context.Context, req *agentv1.CheckRequest) (*agentv1.CheckResponse, error) {
	return &agentv1.CheckResponse{}, f.record("Check", req.GetId(), req)
}

func (f *fakeAgent) Status(_ context.Context, req *agentv1.StatusRequest) (*agentv1.StatusResponse, error) {
	return &agentv1.StatusResponse{}, f.record("Status", nil, req)
}

func (f *fakeAgent) GC(_ context.Context, req *agentv1.GCRequest) (*agentv1.GCResponse, error) {
	return &agentv1.GCResponse{}, f.record("GC", nil, req)
}
