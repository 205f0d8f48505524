// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"netio.dev/netio/pkg/agent/node"
	"netio.dev/netio/pkg/agent/problem"
)

func TestNews(t *testing.T) {
	type step struct {
		after  time.Duration // of the beginning
		report node.Report
		want   string // reasons
	}
	fine := node.Report{ForwarderStarted: 1}
	sick := node.Report{ForwarderStarted: 1, NotReady: errors.New("the forwarder does not answer")}
	wrong := node.Report{ForwarderStarted: 1, Problems: []problem.Problem{{Source: "port a", Message: "lost"}, {Source: "port b", Message: "lost"}}}
	worse := node.Report{ForwarderStarted: 1, Problems: []problem.Problem{{Source: "port c", Message: "lost"}}}
	policy := node.Report{ForwarderStarted: 1, Problems: []problem.Problem{{Source: node.PolicySource + "shop/web", Message: "not understood"}}}
	restarted, unknown := node.Report{ForwarderStarted: 2}, node.Report{}
	for name, steps := range map[string][]step{
		"nothing":             {{0, fine, ""}, {time.Hour, fine, ""}},
		"for a moment":        {{0, sick, ""}, {9 * time.Second, sick, ""}, {10 * time.Second, fine, ""}, {11 * time.Second, sick, ""}, {20 * time.Second, sick, ""}},
		"not ready":           {{0, sick, ""}, {10 * time.Second, sick, "NetIONotReady"}, {time.Hour, sick, ""}, {2 * time.Hour, fine, "NetIOReady"}, {3 * time.Hour, fine, ""}},
		"degraded":            {{0, wrong, ""}, {10 * time.Second, wrong, "NetIODegraded"}, {time.Minute, wrong, ""}, {2 * time.Minute, fine, "NetIORecovered"}},
		"other problems":      {{0, wrong, ""}, {10 * time.Second, wrong, "NetIODegraded"}, {11 * time.Second, worse, ""}, {20 * time.Second, worse, "NetIODegraded"}, {time.Minute, worse, ""}},
		"a policy's problem":  {{0, policy, ""}, {time.Hour, policy, ""}},
		"restarted":           {{0, fine, ""}, {time.Second, restarted, "NetIOForwarderRestarted"}, {time.Minute, restarted, ""}},
		"away, and restarted": {{0, fine, ""}, {time.Second, unknown, ""}, {2 * time.Second, restarted, "NetIOForwarderRestarted"}},
		"away, and there":     {{0, fine, ""}, {time.Second, unknown, ""}, {2 * time.Second, fine, ""}},
	} {
		t.Run(name, func(t *testing.T) {
			var n news
			for i, s := range steps {
				var got []string
				for _, e := range n.look(&s.report, time.Unix(1000, 0).Add(s.after)) {
					got = append(got, string(e.reason))
					if e.note == "" || e.action == "" || strings.Contains(e.note, "\n") {
						t.Errorf("%+v", e)
					}
				}
				if fmt.Sprint(strings.Join(got, " ")) != s.want {
					t.Errorf("step %d: %v, expected %q", i, got, s.want)
				}
			}
		})
	}
}
