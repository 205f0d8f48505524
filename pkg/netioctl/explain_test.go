// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"strings"
	"testing"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func TestExplainAsks(t *testing.T) {
	for args, want := range map[string]string{
		"default/client default/web:80":                  `tuple:{src:"10.42.0.5" dst:"10.42.0.7" protocol:6 dst_port:80}`,
		"client default/web:80/udp -6":                   `tuple:{src:"fd00:42::5" dst:"fd00:42::7" protocol:17 dst_port:80}`,
		"knet12c0 staging/web:80":                        `tuple:{src:"10.42.0.5" dst:"10.42.0.9" protocol:6 dst_port:80}`,
		"client [fd00:42::7]:53/udp":                     `tuple:{src:"fd00:42::5" dst:"fd00:42::7" protocol:17 dst_port:53}`,
		"fd00::1 default/web:9 --source-port 4000":       `tuple:{src:"fd00::1" dst:"fd00:42::7" protocol:6 src_port:4000 dst_port:9}`,
		"client default/web:icmp":                        `tuple:{src:"10.42.0.5" dst:"10.42.0.7" protocol:1 dst_port:2048} icmp_type:8`,
		"client default/web:icmp -6":                     `tuple:{src:"fd00:42::5" dst:"fd00:42::7" protocol:58 dst_port:32768} icmp_type:128`,
		"client default/web:icmpv6":                      `tuple:{src:"fd00:42::5" dst:"fd00:42::7" protocol:58 dst_port:32768} icmp_type:128`,
		"client default/web --icmp-type 3 --icmp-code 4": `tuple:{src:"10.42.0.5" dst:"10.42.0.7" protocol:1 dst_port:772} icmp_type:3 icmp_code:4`,
		"client fd00:42::7 --icmp-type 0":                `tuple:{src:"fd00:42::5" dst:"fd00:42::7" protocol:58}`,
		"host default/web:80":                            `tuple:{src:"10.42.0.1" dst:"10.42.0.7" protocol:6 dst_port:80}`,
		"[::ffff:10.0.0.9] default/web:esp":              `tuple:{src:"10.0.0.9" dst:"10.42.0.7" protocol:50}`,
	} {
		t.Run(args, func(t *testing.T) {
			fw := goldenForwarder()
			fw.explained = make(chan *dataplanev1.ExplainRequest, 1)
			b := newBed(t, fw, true)
			if code := b.do(t, append([]string{"policy", "explain"}, strings.Fields(args)...)...); code != exitDenied {
				t.Fatalf("exit code %d: %s", code, b.errOut.String())
			}
			if got := strings.Join(strings.Fields((<-fw.explained).String()), " "); got != want {
				t.Errorf("request %s\nwant    %s", got, want)
			}
		})
	}
}

func TestExplainRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"client":                                         "expected SRC and DST:PORT",
		"a b:1 c":                                        `"c" is too much`,
		"client default/web":                             "the port is missing",
		"client default/web:80 --icmp-type 8":            "not with a port",
		"client default/web --icmp-type 256":             "0 to 255",
		"client default/web --icmp-type -7":              "0 to 255",
		"client default/web --icmp-code 4":               "needs --icmp-type",
		"client default/web:icmp --source-port 9":        "has no ports",
		"client default/web:80 -4 -6":                    "exclude each other",
		"client default/web:icmpv6 -4":                   "exclude each other",
		"client:80 default/web:80":                       "--source-port 80",
		"client default/web:80 --source-port 70000":      "70000",
		"client default/web:80 --sourceport 7":           "unknown flag",
		"client default/web:80 --output table --timeout": "flag needs an argument",
	} {
		b := newBed(t, goldenForwarder(), true)
		code := b.do(t, append([]string{"policy", "explain"}, strings.Fields(args)...)...)
		if code != exitUsage || !strings.Contains(b.errOut.String(), want) {
			t.Errorf("%s: exit code %d, %q; want %q", args, code, b.errOut.String(), want)
		}
	}
	for args, want := range map[string]string{
		"client web:80":            `"web" may be default/web or staging/web; say which`,
		"nobody default/web:80":    `source: no endpoint or port is called "nobody"`,
		"client nobody:80":         `destination: no endpoint or port is called "nobody"`,
		"client staging/web:80 -6": "no addresses of IPv6: default/client has 10.42.0.5 and fd00:42::5, staging/web has 10.42.0.9",
		"10.0.0.1 [fd00::1]:80":    "no addresses of the same IP version: 10.0.0.1 has 10.0.0.1, fd00::1 has fd00::1",
		"client [fe80::1%eth0]:9":  "link-local",
	} {
		b := newBed(t, goldenForwarder(), true)
		code := b.do(t, append([]string{"policy", "explain"}, strings.Fields(args)...)...)
		if code != exitError || !strings.Contains(b.errOut.String(), want) {
			t.Errorf("%s: exit code %d, %q; want %q", args, code, b.errOut.String(), want)
		}
	}
}

func TestDecision(t *testing.T) {
	step := func(stage, verdict, rule string) *dataplanev1.ExplainStep {
		return &dataplanev1.ExplainStep{Stage: stage, Verdict: verdict, Rule: rule}
	}
	for _, c := range []struct {
		steps []*dataplanev1.ExplainStep
		want  string
	}{
		{nil, ": no rule is against it"},
		{[]*dataplanev1.ExplainStep{step("route", "pass", "")}, ": no rule is against it"},
		{[]*dataplanev1.ExplainStep{step("route", "drop", "")}, ": stopped by route"},
		{[]*dataplanev1.ExplainStep{step("egress policy", "allow", "a"), step("ingress policy", "deny", "b"), step("ingress policy", "drop", "")}, ": stopped by ingress policy, rule b"},
		{[]*dataplanev1.ExplainStep{step("egress policy", "audit", "a"), step("ingress policy", "allow", "b")}, ": egress policy, rule a; ingress policy, rule b"},
	} {
		if got := decision(&dataplanev1.ExplainResponse{Steps: c.steps}); got != c.want {
			t.Errorf("%v: %q, want %q", c.steps, got, c.want)
		}
	}
}
