// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var compare = cmp.Options{
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

func prefixes(s ...string) (p []netip.Prefix) {
	for _, s := range s {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func addrs(s ...string) (a []netip.Addr) {
	for _, s := range s {
		a = append(a, netip.MustParseAddr(s))
	}
	return a
}

func TestParse(t *testing.T) {
	defaults := Config{
		PodCIDRs: prefixes("10.244.0.0/24", "fd00:10:244::/64"), RouterAddresses: addrs("10.244.0.1", "fd00:10:244::1"),
		HostInterface: "netio0", Masquerade: true, RunDir: "/run/netio", StateDir: "/var/lib/netio",
		Socket: "/run/netio/agent.sock", ForwarderSocket: "/run/netio/forwarder.sock", CoolDown: time.Minute,
	}
	tests := []struct {
		name, in string
		want     func(*Config)
	}{
		{"the example", Example, func(*Config) {}},
		{"IPv6 written first", "podCIDRs: [fd00:10:244::/64, 10.244.0.0/24]", func(*Config) {}},
		{"one family", "podCIDRs: [10.244.0.0/24]", func(c *Config) {
			c.PodCIDRs, c.RouterAddresses = c.PodCIDRs[:1], c.RouterAddresses[:1]
		}},
		{"several of one family", "podCIDRs: [10.244.0.0/24, 10.245.0.0/24]", func(c *Config) {
			c.PodCIDRs, c.RouterAddresses = prefixes("10.244.0.0/24", "10.245.0.0/24"), c.RouterAddresses[:1]
		}},
		{"an alias", "podCIDRs: &all [10.244.0.0/24, fd00:10:244::/64]\nmasqueradeExcept: *all", func(c *Config) {
			c.MasqueradeExcept = c.PodCIDRs
		}},
		{"everything", `
node: host1
podCIDRs: [10.244.0.0/24, fd00:10:244::/64]
routerAddresses: ["fd00:10:244::fe", 10.244.0.254]
mtu: 1400
hostInterface: pods
masquerade: false
masqueradeExcept: [10.0.0.0/8]
runDir: /run/n
stateDir: /srv/n
socket: /run/n/a
forwarderSocket: /run/n/f
coolDown: 5m
connections: {max: 65536, maxPerPort: 4096, timeouts: {udp: 10s, tcpEstablished: 24h}}
installCNI: {binDir: /opt/bin, confDir: /etc/net.d, network: pods, portMappings: true}
metrics: {address: "[::1]:9617", perPod: true}
`, func(c *Config) {
			c.Node, c.MTU, c.HostInterface, c.Masquerade = "host1", 1400, "pods", false
			c.RouterAddresses = addrs("10.244.0.254", "fd00:10:244::fe")
			c.MasqueradeExcept = prefixes("10.0.0.0/8")
			c.RunDir, c.StateDir, c.Socket, c.ForwarderSocket = "/run/n", "/srv/n", "/run/n/a", "/run/n/f"
			c.CoolDown = 5 * time.Minute
			c.Connections = Connections{65536, 4096, Timeouts{UDP: 10 * time.Second, TCPEstablished: 24 * time.Hour}}
			c.InstallCNI = &InstallCNI{"/opt/bin", "/etc/net.d", "pods", "10-pods.conflist", true}
			c.Metrics = &Metrics{"[::1]:9617", true}
		}},
		{"sockets follow runDir", "podCIDRs: [10.244.0.0/24, fd00:10:244::/64]\nrunDir: /run/n", func(c *Config) {
			c.RunDir, c.Socket, c.ForwarderSocket = "/run/n", "/run/n/agent.sock", "/run/n/forwarder.sock"
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := defaults
			tt.want(&want)
			got, err := Parse("c.yaml", []byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(&want, got, compare); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestParseMistakes(t *testing.T) {
	const ok = "podCIDRs: [10.244.0.0/24, fd00:10:244::/64]\n"
	tests := []struct {
		name, in string
		want     []string // one substring for each mistake
	}{
		{"empty", "", []string{"c.yaml: the file is empty; podCIDRs is needed"}},
		{"only a comment", "# soon\n", []string{"the file is empty"}},
		{"not YAML", "podCIDRs: [1\nnode: x: y", []string{"c.yaml:1: not YAML"}},
		{"a tab", "podCIDRs:\n\t- x", []string{"c.yaml:2: not YAML: found character"}},
		{"a list at the top", "- a", []string{"c.yaml:1: found a list; expected fields"}},
		{"two documents", ok + "---\nnode: x", []string{"c.yaml:2: a second YAML document"}},
		{"unknown field", ok + "bridge: br0", []string{"c.yaml:2: bridge: unknown field; the fields here are connections, coolDown"}},
		{"misspelt field", "podCidrs: [10.244.0.0/24]", []string{"c.yaml:1: podCidrs: unknown field; did you mean podCIDRs?"}},
		{"unknown field further in", ok + "installCNI:\n  binDirs: /opt", []string{"c.yaml:3: installCNI.binDirs: unknown field; did you mean binDir?"}},
		{"a field twice", ok + "mtu: 1400\nmtu: 1500", []string{"c.yaml:3: mtu: given a second time (first on line 2)"}},
		{"no podCIDRs", "node: x", []string{"c.yaml: podCIDRs: none given"}},
		{"a scalar for a list", "podCIDRs: 10.244.0.0/24", []string{`podCIDRs: found "10.244.0.0/24"; expected a list`}},
		{"no prefix length", "podCIDRs: [10.244.0.0]", []string{"podCIDRs[0]: \"10.244.0.0\" has no prefix length"}},
		{"not a CIDR", "podCIDRs:\n- 10.244.0.0/33", []string{"c.yaml:2: podCIDRs[0]: \"10.244.0.0/33\" is not a CIDR"}},
		{"a mapped address", "podCIDRs: ['::ffff:10.0.0.0/120']", []string{"is not a CIDR"}},
		{"host bits", "podCIDRs: [10.244.0.1/24]", []string{"10.244.0.1/24 has bits set after the prefix length; write 10.244.0.0/24"}},
		{"overlap", "podCIDRs:\n- 10.244.0.0/16\n- 10.244.3.0/24", []string{"c.yaml:3: podCIDRs[1]: 10.244.3.0/24 overlaps podCIDRs[0], 10.244.0.0/16"}},
		{"loopback", "podCIDRs: [127.0.1.0/24]", []string{"is loopback; choose a private prefix"}},
		{"everything", "podCIDRs: [0.0.0.0/0]", []string{"choose a private prefix"}},
		{"link-local", "podCIDRs: ['fe80::/64']", []string{"is link-local"}},
		{"IPv6 too large", "podCIDRs: ['fd00::/48']", []string{"expected a /64 or longer, such as fd00::/64"}},
		{"too small", "podCIDRs: [10.0.0.0/31]", []string{"no room for pods"}},
		{"router of a missing family", "podCIDRs: [10.244.0.0/24]\nrouterAddresses: [10.244.0.1, 'fd00::1']", []string{"c.yaml:2: routerAddresses[1]: fd00::1 is of a family that podCIDRs has no prefix of"}},
		{"a family without router", ok + "routerAddresses: [10.244.0.1]", []string{"c.yaml:2: routerAddresses: has no IPv6 address but podCIDRs has fd00:10:244::/64"}},
		{"two routers", ok + "routerAddresses: [10.244.0.1, 10.244.0.2, 'fd00::1']", []string{"routerAddresses[1]: 10.244.0.2 is a second IPv4 address"}},
		{"router with length", ok + "routerAddresses: [10.244.0.1/24, 'fd00::1']", []string{`"10.244.0.1/24" is not an address`}},
		{"router is broadcast", ok + "routerAddresses: [10.244.0.255, 'fd00::1']", []string{"is the network or broadcast address of 10.244.0.0/24"}},
		{"router is multicast", ok + "routerAddresses: [224.0.0.1, 'fd00::1']", []string{"is not a unicast address"}},
		{"mtu too small", ok + "mtu: 1000", []string{`mtu: found "1000"; expected a number from 1280 to 65535`}},
		{"mtu not a number", ok + "mtu: big", []string{`found "big"; expected a number`}},
		{"boolean", ok + "masquerade: yes please", []string{`masquerade: found "yes please"; expected true or false`}},
		{"exception", ok + "masqueradeExcept: [lan]", []string{`masqueradeExcept[0]: "lan" has no prefix length`}},
		{"duration without unit", ok + "coolDown: 60", []string{`coolDown: found "60"; expected a time with unit`}},
		{"negative duration", ok + "coolDown: -1s", []string{"expected whole seconds, from 0s"}},
		{"interface name", ok + "hostInterface: a-name-that-is-too-long", []string{"is not an interface name"}},
		{"number as a name", ok + "node: 17", []string{`node: found "17"; expected text`}},
		{"null", ok + "node:", []string{"node: found nothing; expected text"}},
		{"empty text", ok + "node: ''", []string{"node: is empty"}},
		{"relative path", ok + "stateDir: state", []string{`stateDir: "state" is not an absolute path`}},
		{"socket path too long", ok + "socket: /" + strings.Repeat("x", 103), []string{"a socket's path has at most 103"}},
		{"one socket for two", ok + "socket: /run/s\nforwarderSocket: /run/s", []string{"c.yaml:3: forwarderSocket: /run/s is the agent's own socket too"}},
		{"per port more than all", ok + "connections: {max: 2000, maxPerPort: 3000}", []string{"3000 is more than connections.max, 2000"}},
		{"network name", ok + "installCNI: {network: a/b}", []string{"is not a CNI network name", "is not a file name that ends in .conflist"}},
		{"conflist name", ok + "installCNI: {file: netio.conf}", []string{"is not a file name that ends in .conflist"}},
		{"metrics without address", ok + "metrics: {perPod: true}", []string{"c.yaml:2: metrics.address: not given; expected IP:PORT such as"}},
		{"metrics without port", ok + "metrics: {address: 127.0.0.1}", []string{`"127.0.0.1" has no port`}},
		{"metrics at port 0", ok + "metrics: {address: '127.0.0.1:0'}", []string{`has no port`}},
		{"metrics at a name", ok + "metrics: {address: 'localhost:9617'}", []string{`"localhost" is not an IP address`}},
		{"several at once", "podCIDR: [10.244.0.0/24]\nmtu: 1\nnode: []", []string{"c.yaml:1: podCIDR: unknown", "c.yaml:2: mtu", "c.yaml:3: node: found a list"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("c.yaml", []byte(tt.in))
			var m Mistakes
			if !errors.As(err, &m) {
				t.Fatalf("got %v, expected mistakes", err)
			}
			if len(m) != len(tt.want) {
				t.Fatalf("%d mistakes, expected %d:\n%v", len(m), len(tt.want), err)
			}
			for i := range m {
				if !strings.Contains(m[i].Error(), tt.want[i]) {
					t.Errorf("got  %s\nexpected %q in it", m[i].Error(), tt.want[i])
				}
			}
		})
	}
}

func TestLoadMissing(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"))
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "podCIDRs:") {
		t.Fatalf("got %v, expected the path and an example", err)
	}
}

func TestMerge(t *testing.T) {
	parse := func(s string) *Config {
		c, err := Parse("c.yaml", []byte(s))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := parse("podCIDRs: [10.244.0.0/24]\nmtu: 1500")
	if _, kept := c.Merge("c.yaml", parse("podCIDRs: [10.244.0.0/24]\nmtu: 1400")); kept != nil {
		t.Errorf("a change of the MTU: %v", kept)
	}
	got, kept := c.Merge("c.yaml", parse("podCIDRs: [10.245.0.0/24]\nmtu: 1400\nmasquerade: false"))
	if got.MTU != 1400 || got.Masquerade || got.PodCIDRs[0] != c.PodCIDRs[0] {
		t.Errorf("merged to %+v", got)
	}
	if _, kept := c.Merge("c.yaml", parse("podCIDRs: [10.244.0.0/24]\nmetrics: {address: ':9617'}")); len(kept) != 1 || !strings.Contains(kept[0].Error(), "changed from none to :9617") {
		t.Errorf("metrics: %v", kept)
	}
	if len(kept) != 2 || kept[0].Field != "podCIDRs" || kept[1].Field != "routerAddresses" {
		t.Errorf("kept %v, expected podCIDRs and routerAddresses", kept)
	}
}

func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	write := func(s string) {
		t.Helper()
		tmp := path + ".tmp"
		if err := os.WriteFile(tmp, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, path); err != nil {
			t.Fatal(err)
		}
	}
	write("second") // the caller read "first" just before
	ctx, cancel := context.WithCancel(context.Background())
	seen := make(chan string)
	done := make(chan error, 1)
	go func() {
		done <- Watch(ctx, path, []byte("first"), func(data []byte, err error) {
			if err != nil {
				data = []byte("unreadable")
			}
			seen <- string(data)
		})
	}()
	expect := func(want string) {
		t.Helper()
		if got := <-seen; got != want {
			t.Fatalf("saw %q, expected %q", got, want)
		}
	}
	expect("second")
	write("third")
	expect("third")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("unreadable")
	write("third") // back again: the problem is over
	expect("third")
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// FuzzParse: no input panics, and what is accepted can be accepted again.
func FuzzParse(f *testing.F) {
	f.Add(Example)
	f.Add("podCIDRs: &a [10.244.0.0/24, *a]")
	f.Add("podCIDRs: [10.244.0.0/24]\nrouterAddresses: [10.244.0.255]\ninstallCNI: {}\nconnections: {timeouts: {udp: 1s}}")
	f.Add("a: &a {b: *a}\n---\n? [x]\n: y")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse("c.yaml", []byte(s))
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v with error %v", c, err)
		}
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without text")
			}
			return
		}
		for i, p := range c.PodCIDRs {
			if p != p.Masked() || i > 0 && p.Overlaps(c.PodCIDRs[i-1]) {
				t.Fatalf("took %v", c.PodCIDRs)
			}
		}
		if len(c.RouterAddresses) == 0 || len(c.RouterAddresses) > 2 {
			t.Fatalf("routers %v", c.RouterAddresses)
		}
	})
}

// TestParseNode is about the configuration of a node of a cluster.
func TestParseNode(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", NodeExample} {
		c, err := ParseNode("agent.yaml", []byte(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if c.Socket != "/run/netio/agent.sock" || len(c.PodCIDRs) > 0 {
			t.Errorf("%q: %+v", text, c)
		}
		with, err := c.WithPodCIDRs("node n1", prefixes("fd00:10:244:1::/64", "10.244.1.0/24"))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(addrs("10.244.1.1", "fd00:10:244:1::1"), with.RouterAddresses, compare); diff != "" || len(c.PodCIDRs) > 0 {
			t.Errorf("%s; before %+v", diff, c)
		}
		if diff := cmp.Diff(addrs("10.244.1.2", "fd00:10:244:1::2"), with.ServiceSources, compare); diff != "" {
			t.Error(diff)
		}
		if _, err := c.WithPodCIDRs("node n1", prefixes("10.244.1.0/30")); err == nil || !strings.Contains(err.Error(), "at least eight") {
			t.Errorf("a small prefix: %v", err)
		}
		if _, err := c.WithPodCIDRs("node n1", prefixes("127.0.0.0/24")); err == nil || !strings.Contains(err.Error(), "node n1: podCIDRs[0]: 127.0.0.0/24 is loopback") {
			t.Errorf("loopback: %v", err)
		}
	}
	c, err := ParseNode("agent.yaml", []byte("kubeProxyReplacement: true\nexternalIPs: true\n"))
	if err != nil || !c.KubeProxyReplacement || !c.ExternalIPs {
		t.Errorf("%+v, %v", c, err)
	}
	for text, want := range map[string]string{"": "none", "tunnel: {}": "vni 9617, port 4789", "tunnel: {vni: 7, port: 8472}": "vni 7, port 8472"} {
		if c, err := ParseNode("agent.yaml", []byte(text)); err != nil || c.Tunnel.String() != want {
			t.Errorf("%q: %v, %v", text, c.Tunnel, err)
		}
	}
	for _, o := range []struct {
		text, addresses, sources string
		want                     int
	}{
		{"", "192.0.2.1", "10.244.0.2", 0},
		{"tunnel: {}", "192.0.2.1 2001:db8::1", "10.244.0.2 fd00::2", 50},
		{"tunnel: {}", "2001:db8::1", "10.244.0.2 fd00::2", 70},
		{"tunnel: {}", "192.0.2.1 2001:db8::1", "fd00::2", 70}, // pods have no IPv4 to lead it by
	} {
		c, err := ParseNode("agent.yaml", []byte(o.text))
		if err != nil {
			t.Fatal(err)
		}
		c.NodeAddresses, c.ServiceSources = addrs(strings.Fields(o.addresses)...), addrs(strings.Fields(o.sources)...)
		if got := c.TunnelOverhead(); got != o.want {
			t.Errorf("%+v: overhead %d", o, got)
		}
	}
	for _, text := range []string{"tunnel: {vni: 0}", "tunnel: {vni: 16777216}", "tunnel: {port: 65536}", "tunnel: {x: 1}", "tunnel: yes"} {
		if _, err := ParseNode("agent.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), "agent.yaml:1: tunnel") {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := ParseNode("agent.yaml", []byte("externalIPs: true\n")); err == nil || !strings.Contains(err.Error(), "agent.yaml:1: externalIPs: is of no use without") {
		t.Errorf("externalIPs alone: %v", err)
	}
	if _, err := Parse("agent.yaml", []byte("podCIDRs: [10.244.0.0/24]\nkubeProxyReplacement: true\n")); err == nil || !strings.Contains(err.Error(), "kubeProxyReplacement: is for nodes of a cluster") {
		t.Errorf("standalone: %v", err)
	}
	for _, field := range []string{"podCIDRs: [10.244.0.0/24]", "routerAddresses: [10.244.0.1]"} {
		if _, err := ParseNode("agent.yaml", []byte("mtu: 1400\n"+field)); err == nil || !strings.Contains(err.Error(), "agent.yaml:2: ") || !strings.Contains(err.Error(), "comes from the cluster") {
			t.Errorf("%s: %v", field, err)
		}
	}
}
