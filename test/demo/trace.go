// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
)

// showTraces asks for the way of packets that end in every manner there is here,
// and prints one of them.
func (d *demo) showTraces(ctx context.Context) (string, error) {
	toWeb := fmt.Sprintf("%s:%d", web, servicePort)
	world := fmt.Sprintf("%s:80", worldAddr[0].Addr())
	strange := address(d.pod(stranger).addr, false).String()
	nobody := podCIDRs[0].Addr().As4()
	nobody[3] = 99
	var shown string
	for _, c := range []struct {
		args   []string
		status int
		want   string // how it ends
	}{
		{[]string{client, toWeb}, 0, "delivered to default/" + web},
		{[]string{stranger, toWeb}, traceDropped, "dropped: policy-ingress, by ingress policy, isolation by default/web"},
		{[]string{client, toWeb, "--from", strange}, traceDropped, "dropped: spoofed-source"},
		{[]string{client, toWeb, "--length", "9000"}, traceDropped, "dropped: too-big"},
		{[]string{client, fmt.Sprintf("%d.%d.%d.%d:80", nobody[0], nobody[1], nobody[2], nobody[3])}, traceDropped, "dropped: no-route"},
		{[]string{client, world}, 0, "leaves NetIO by port host; the host's route: " + worldAddr[0].Addr().String()},
		// Of the transfer, whose connections are there whatever the others took.
		{[]string{client, fmt.Sprintf("%s:%d", web, transferPort), "--reply"}, 0, "delivered to default/" + client},
		{[]string{"host", toWeb}, traceDropped, "dropped: policy-ingress"},
		{[]string{client, stranger, "-6"}, 0, "delivered to default/" + stranger},
	} {
		args := append([]string{"trace"}, c.args...)
		out, status, err := d.netioctl(ctx, args...)
		if err != nil {
			return "", err
		}
		if status != c.status || !strings.Contains(out, c.want) {
			return "", fmt.Errorf("netioctl %s ended with %d, expected %d and %q:\n%s", strings.Join(args, " "), status, c.status, c.want, out)
		}
		if shown == "" {
			shown = fmt.Sprintf("\n$ netioctl %s\n%s", strings.Join(args, " "), out)
		}
	}
	return shown, nil
}

// traceDropped is the exit status of trace for a packet that is dropped.
const traceDropped = 3
