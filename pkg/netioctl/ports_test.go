// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"strings"
	"testing"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// TestFailedPort: a port whose interface could not be made tells why.
func TestFailedPort(t *testing.T) {
	list := &dataplanev1.ListPortsResponse{Ports: []*dataplanev1.PortStatus{
		{Config: &dataplanev1.Port{Name: "one"}, Up: true},
		{Config: &dataplanev1.Port{Name: "two"}, Error: "no such namespace"},
	}}
	a := &app{}
	var out strings.Builder
	if err := writePorts(&out, a.portTable(list), list); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 || !strings.Contains(lines[2], "failed") || lines[3] != "two failed, and is tried again: no such namespace" {
		t.Errorf("%s", out.String())
	}
}
