// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"net/netip"
	"strings"
	"testing"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func TestTraceAsks(t *testing.T) {
	for args, want := range map[string]string{
		"default/client default/web:8080":                           `port:"knet12c0" description:{tuple:{src:"10.42.0.5" dst:"10.42.0.7" protocol:6 dst_port:8080} hop_limit:64 dont_fragment:true}`,
		"client default/web":                                        `port:"knet12c0" description:{tuple:{src:"10.42.0.5" dst:"10.42.0.7" protocol:1 dst_port:2048} icmp_type:8 hop_limit:64 dont_fragment:true}`,
		"client default/web -6":                                     `port:"knet12c0" description:{tuple:{src:"fd00:42::5" dst:"fd00:42::7" protocol:58 dst_port:32768} icmp_type:128 hop_limit:64 dont_fragment:true}`,
		"client default/web:icmp":                                   `port:"knet12c0" description:{tuple:{src:"10.42.0.5" dst:"10.42.0.7" protocol:1 dst_port:2048} icmp_type:8 hop_limit:64 dont_fragment:true}`,
		"client default/web --icmp-type 0":                          `port:"knet12c0" description:{tuple:{src:"10.42.0.5" dst:"10.42.0.7" protocol:1} hop_limit:64 dont_fragment:true}`,
		"client default/web:80/udp --fragments --hop-limit 1":       `port:"knet12c0" description:{tuple:{src:"10.42.0.5" dst:"10.42.0.7" protocol:17 dst_port:80} hop_limit:1}`,
		"client web:80 --from 10.0.0.66":                            ``,
		"client default/web:80 --from 10.0.0.66":                    `port:"knet12c0" description:{tuple:{src:"10.0.0.66" dst:"10.42.0.7" protocol:6 dst_port:80} hop_limit:64 dont_fragment:true}`,
		"client default/web:80 --source-port 7 --tcp-flags ack,fin": `port:"knet12c0" description:{tuple:{src:"10.42.0.5" dst:"10.42.0.7" protocol:6 src_port:7 dst_port:80} tcp_flags:17 hop_limit:64 dont_fragment:true}`,
		"world default/web:8080 --length 900":                       `description:{tuple:{src:"192.0.2.1" dst:"10.42.0.7" protocol:6 dst_port:8080} hop_limit:64 dont_fragment:true} length:900`,
		"host default/web:80":                                       `port:"host" description:{tuple:{src:"10.42.0.1" dst:"10.42.0.7" protocol:6 dst_port:80} hop_limit:64 dont_fragment:true}`,
		"10.9.9.9 default/web:80":                                   `description:{tuple:{src:"10.9.9.9" dst:"10.42.0.7" protocol:6 dst_port:80} hop_limit:64 dont_fragment:true}`,
		"client [2001:db8::9]:443":                                  `port:"knet12c0" description:{tuple:{src:"fd00:42::5" dst:"2001:db8::9" protocol:6 dst_port:443} hop_limit:64 dont_fragment:true}`,
	} {
		t.Run(args, func(t *testing.T) {
			fw := goldenForwarder()
			fw.traced = make(chan *dataplanev1.TraceRequest, 1)
			b := newBed(t, fw, true)
			code := b.do(t, append([]string{"trace"}, strings.Fields(args)...)...)
			if want == "" {
				if code != exitError {
					t.Errorf("exit code %d", code)
				}
				return
			}
			if code != exitDenied && code != exitOK {
				t.Fatalf("exit code %d: %s", code, b.errOut.String())
			}
			if got := strings.Join(strings.Fields((<-fw.traced).String()), " "); got != want {
				t.Errorf("request %s\nwant    %s", got, want)
			}
		})
	}
}

func TestTraceRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"client":                                  "expected SRC and DST[:PORT]",
		"client web:80 --length 70000":            "--length 70000",
		"client web:80 --hop-limit 0":             "--hop-limit 0",
		"client web:80 --tcp-flags sin":           `--tcp-flags "sin": expected fin, syn`,
		"client web:80/udp --tcp-flags syn":       "udp has none",
		"client web:80 --from pod":                `--from "pod": expected an IP address`,
		"--packet 4500 client web":                `"client" is too much`,
		"--packet 45x0":                           "--packet: encoding/hex",
		"--packet 45000028 --length 3":            "--length 3: expected 4",
		"--packet 45000028 --from 10.0.0.1":       "only --ingress and --length go with it",
		"client web --icmp-code 4":                "needs --icmp-type",
		"client default/web:80 -4 -6":             "exclude each other",
		"client default/web:icmp --source-port 9": "has no ports",
	} {
		b := newBed(t, goldenForwarder(), true)
		code := b.do(t, append([]string{"trace"}, strings.Fields(args)...)...)
		if code != exitUsage || !strings.Contains(b.errOut.String(), want) {
			t.Errorf("%s: exit code %d, %q; want %q", args, code, b.errOut.String(), want)
		}
	}
}

// TestTraceFromHost: the host sends with the address that its routes say.
func TestTraceFromHost(t *testing.T) {
	fw := goldenForwarder()
	fw.traced = make(chan *dataplanev1.TraceRequest, 1)
	b := newBed(t, fw, true)
	b.hostSource = netip.MustParseAddr("172.18.0.2")
	b.do(t, "trace", "host", "default/web:80")
	if got := (<-fw.traced).GetDescription().GetTuple().GetSrc(); got != "172.18.0.2" {
		t.Errorf("source %s", got)
	}
}

// TestTraceReply asks about answers of connections that are there.
func TestTraceReply(t *testing.T) {
	for args, want := range map[string]string{
		"client 10.96.0.10:80":                     `port:"knet7f3a" description:{tuple:{src:"10.42.0.7" dst:"10.42.0.5" protocol:6 src_port:8080 dst_port:40112} tcp_flags:16 hop_limit:64 dont_fragment:true}`,
		"client 10.96.0.10:80 --tcp-flags fin,ack": `port:"knet7f3a" description:{tuple:{src:"10.42.0.7" dst:"10.42.0.5" protocol:6 src_port:8080 dst_port:40112} tcp_flags:17 hop_limit:64 dont_fragment:true}`,
		"client default/web":                       `port:"knet7f3a" description:{tuple:{src:"10.42.0.7" dst:"10.42.0.5" protocol:1 src_port:77} hop_limit:64 dont_fragment:true}`,
		"client [2001:db8::53]:53/udp":             `port:"host" description:{tuple:{src:"2001:db8::53" dst:"2001:db8::1" protocol:17 src_port:53 dst_port:1053} hop_limit:64 dont_fragment:true}`,
		"client default/web:80":                    "",
		"client 10.96.0.10:80 --source-port 7":     "",
	} {
		t.Run(args, func(t *testing.T) {
			fw := goldenForwarder()
			fw.traced = make(chan *dataplanev1.TraceRequest, 1)
			b := newBed(t, fw, true)
			code := b.do(t, append([]string{"trace", "--reply"}, strings.Fields(args)...)...)
			if want == "" {
				if code != exitError || !strings.Contains(b.errOut.String(), "no tcp connection from 10.42.0.5") {
					t.Errorf("exit code %d: %s", code, b.errOut.String())
				}
				return
			}
			if len(fw.traced) == 0 {
				t.Fatalf("exit code %d: %s", code, b.errOut.String())
			}
			if got := strings.Join(strings.Fields((<-fw.traced).String()), " "); got != want {
				t.Errorf("request %s\nwant    %s", got, want)
			}
		})
	}
}

// TestTracePacket gives the forwarder a packet as it is.
func TestTracePacket(t *testing.T) {
	for args, want := range map[string]string{
		"--packet 45000028": `packet:"E\x00\x00("`,
		"--packet 45000028 --ingress default/web --length 1500": `port:"knet7f3a" packet:"E\x00\x00(" length:1500`,
		"--packet 45000028 --ingress host":                      `port:"host" packet:"E\x00\x00("`,
	} {
		t.Run(args, func(t *testing.T) {
			fw := goldenForwarder()
			var got *dataplanev1.TraceRequest
			fw.trace = func(req *dataplanev1.TraceRequest) (*dataplanev1.TraceResponse, error) {
				got = req
				return forwarded(&dataplanev1.Tuple{Src: "10.42.0.5", Dst: "10.42.0.7", Protocol: 6, SrcPort: 1, DstPort: 2}, "knet7f3a", ""), nil
			}
			b := newBed(t, fw, true)
			if code := b.do(t, append([]string{"trace"}, strings.Fields(args)...)...); code != exitOK {
				t.Fatalf("exit code %d: %s", code, b.errOut.String())
			}
			if !strings.HasPrefix(b.out.String(), "10.42.0.5 -> 10.42.0.7, tcp port 2, 40 bytes\n") || !strings.Contains(b.out.String(), "delivered to default/web") {
				t.Errorf("printed\n%s", b.out.String())
			}
			if got := strings.Join(strings.Fields(got.String()), " "); got != want {
				t.Errorf("request %s\nwant    %s", got, want)
			}
		})
	}
}
