// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"strings"
	"testing"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// answers are lists of drops, one after the other; then the forwarder goes.
func answers(lists ...[]*dataplanev1.DropCount) chan *dataplanev1.ListDropsResponse {
	c := make(chan *dataplanev1.ListDropsResponse, len(lists))
	for _, l := range lists {
		c <- &dataplanev1.ListDropsResponse{Drops: l}
	}
	close(c)
	return c
}

func TestWatchDrops(t *testing.T) {
	type drops = []*dataplanev1.DropCount
	a := func(n uint64) *dataplanev1.DropCount {
		return &dataplanev1.DropCount{Port: "a", Reason: "no-route", Packets: n, Description: "look"}
	}
	gone := func(n uint64) *dataplanev1.DropCount {
		return &dataplanev1.DropCount{Reason: "loop", Packets: n, Description: "turn"}
	}
	lists := []drops{{a(5)}, {a(5)}, {a(7), gone(1)}, {gone(1)}, {a(3), gone(2)}, {a(1), gone(2)}}
	const table = "PORT   REASON     PACKETS   MEANING\na      no-route         5   look\n"
	for _, tt := range []struct{ args, want string }{
		{"drops --watch --every 1ms", table +
			"12:00:00.000000 +2 a no-route: look\n12:00:00.000000 +1 - loop: turn\n" +
			"12:00:00.000000 +3 a no-route: look\n12:00:00.000000 +1 - loop: turn\n" +
			"12:00:00.000000 +1 a no-route: look\n"}, // the counter began anew
		{"drops -w --every 1ms -o json", strings.Join([]string{
			`{"port":"a","reason":"no-route","packets":"5","description":"look"}`,
			`{"port":"a","reason":"no-route","packets":"2","description":"look"}`,
			`{"port":"","reason":"loop","packets":"1","description":"turn"}`,
			`{"port":"a","reason":"no-route","packets":"3","description":"look"}`,
			`{"port":"","reason":"loop","packets":"1","description":"turn"}`,
			`{"port":"a","reason":"no-route","packets":"1","description":"look"}`,
		}, "\n") + "\n"},
	} {
		fw := goldenForwarder()
		fw.dropped = answers(lists...)
		b := newBed(t, fw, false)
		if code := b.do(t, strings.Fields(tt.args)...); code != exitError || !strings.Contains(b.errOut.String(), "has gone away") {
			t.Errorf("%s: exit code %d, %s", tt.args, code, b.errOut.String())
		}
		if b.out.String() != tt.want {
			t.Errorf("%s printed\n%s, expected\n%s", tt.args, b.out.String(), tt.want)
		}
	}
}

func TestWatchDropsUsage(t *testing.T) {
	for _, args := range []string{"drops --every 1s", "drops --watch --every 0s"} {
		b := newBed(t, goldenForwarder(), false)
		if code := b.do(t, strings.Fields(args)...); code != exitUsage || !strings.Contains(b.errOut.String(), "--every") {
			t.Errorf("%s: exit code %d, %s", args, code, b.errOut.String())
		}
	}
}
