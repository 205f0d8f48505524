// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"netio.dev/netio/pkg/agent/attach"
	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/forwarder"
	"netio.dev/netio/pkg/agent/podnet"
	"netio.dev/netio/pkg/ipam"
)

func cniCode(err error) string {
	for _, d := range status.Convert(err).Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok && i.Domain == "cni" {
			return i.Metadata["code"]
		}
	}
	return ""
}

func TestErrors(t *testing.T) {
	tests := []struct {
		err  error
		grpc codes.Code
		cni  string
	}{
		{attachment.ErrInvalid, codes.InvalidArgument, "4"},
		{podnet.ErrNoNetNS, codes.InvalidArgument, "4"},
		{attach.ErrRequest, codes.InvalidArgument, "7"},
		{attach.ErrUnknown, codes.NotFound, "3"},
		{attach.ErrPool, codes.FailedPrecondition, "11"},
		{attach.ErrDiffers, codes.FailedPrecondition, "999"},
		{ipam.ErrExhausted, codes.ResourceExhausted, "11"},
		{ipam.ErrNotInPool, codes.InvalidArgument, "7"},
		{forwarder.ErrDown, codes.Unavailable, "11"},
		{forwarder.ErrRefused, codes.FailedPrecondition, "999"},
		{context.Canceled, codes.Canceled, "11"},
		{errors.New("disk on fire"), codes.Internal, "999"},
	}
	for _, tt := range tests {
		err := cniError(fmt.Errorf("attach netio/a/eth0: %w\nand more", tt.err))
		s := status.Convert(err)
		if s.Code() != tt.grpc || cniCode(err) != tt.cni {
			t.Errorf("%v: %v with CNI code %q, expected %v with %q", tt.err, s.Code(), cniCode(err), tt.grpc, tt.cni)
		}
		if want := "attach netio/a/eth0: " + tt.err.Error() + "; and more"; s.Message() != want {
			t.Errorf("message %q, expected %q", s.Message(), want)
		}
	}
	// The pods' own traffic may be cut off while the forwarder is away.
	if got := cniCode(notAvailable(errors.New("x"))); got != "50" {
		t.Errorf("not available: %s", got)
	}
	if got := cniCode(notAvailable(fmt.Errorf("x: %w", forwarder.ErrDown))); got != "51" {
		t.Errorf("forwarder away: %s", got)
	}
	if got := cniCode(limited(errors.New("x"))); got != "51" {
		t.Errorf("limited: %s", got)
	}
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.7": "10.0.0.7", "10.0.0.7/24": "10.0.0.7", "fd00::7/128": "fd00::7", "::ffff:10.0.0.7": "10.0.0.7",
		"": "", "web": "", "fe80::1%eth0": "", "10.0.0.7/33": "",
	} {
		got, err := parseAddress(in)
		if (err != nil) != (want == "") || err == nil && got.String() != want {
			t.Errorf("%q: %v, %v, expected %q", in, got, err, want)
		}
	}
}

// FuzzParseAddress: what is taken is an address without zone.
func FuzzParseAddress(f *testing.F) {
	f.Add("10.0.0.7/24")
	f.Add("fe80::1%eth0/64")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseAddress(s)
		if err == nil && (!a.IsValid() || a.Zone() != "" || a.Is4In6()) {
			t.Fatalf("took %q as %v", s, a)
		}
	})
}
