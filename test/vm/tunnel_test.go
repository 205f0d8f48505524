// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"netio.dev/netio/pkg/dataplane/packet"
	"netio.dev/netio/test/vm"
)

// TestTunnel joins the pods of two machines by netio-agent forward and a tunnel,
// over either IP version:
//
//	10.0.1.2 pod ── knet ── forwarder ── knet netio0 ── host ── eth0 192.0.2.1
//	                                                             │
//	10.0.2.2 pod ── knet ── forwarder ── knet netio0 ── host ── eth0 192.0.2.2
//
// The tunnel's ends are 198.51.100.N or fd79::N, which the hosts lead to netio0.
// The NICs do nothing for the kernel: what netio.ko has not segmented the kernel
// cuts, and the kernel at the other end verifies every checksum.
func TestTunnel(t *testing.T) {
	for _, series := range nicSeries(t) {
		for _, six := range []bool{false, true} {
			over, ip := "IPv4", "ipv4"
			overhead := packet.VXLANOverhead4
			if six {
				over, ip, overhead = "IPv6", "ipv6", packet.VXLANOverhead6
			}
			t.Run(filepath.Join(series.Name, over), func(t *testing.T) {
				agent := vm.File{Guest: "/bin/netio-agent", Host: vm.Build(t, "./cmd/netio-agent")}
				nodes := startNodes(t, series, 2, agent)
				for _, n := range nodes {
					n.configure(t)
					mtu := n.mtu // of the wire; from here on it is that of pods
					n.mtu -= overhead
					n.forwards(t)
					n.startAgent(t)
					n.apply(t, fmt.Sprintf(`{"snapshot": {
						"revision": 1,
						"settings": {"ipv4": "10.0.%[1]d.1", "ipv6": "fd00:%[1]d::1", "vxlan": {"port": "host", "vni": 42, %[7]q: %[5]q}},
						"ports": [
							{"name": "pod", "kind": "POD", "ifname": "eth0", "netns": "/run/netns/pod", "mtu": %[3]d, "addresses": ["10.0.%[1]d.2", "fd00:%[1]d::2"]},
							{"name": "host", "kind": "HOST", "ifname": "netio0", "mtu": %[4]d},
							{"name": "other", "kind": "TUNNEL", "remote": %[6]q, "mtu": %[3]d}
						],
						"routes": [{"prefix": "10.0.%[2]d.0/24", "port": "other"}, {"prefix": "fd00:%[2]d::/64", "port": "other"}]}}`,
						n.number, 3-n.number, n.mtu, mtu, tunnelEnd(six, n.number), tunnelEnd(six, 3-n.number), ip))
					n.ip(t, "link set netio0 up")
					n.ip(t, fmt.Sprintf("route add %s dev netio0", tunnelEnd(six, n.number)))
					n.ip(t, fmt.Sprintf("route add %s via %s dev eth0", tunnelEnd(six, 3-n.number), wireAddress(six, 3-n.number)))
					n.configurePod(t)
				}
				if ports := nodes[0].ports(t); !strings.Contains(ports, " up ") || strings.Count(ports, " up ") != 3 {
					t.Fatalf("not all ports are up:\n%s", ports)
				}
				exchange(t, nodes)
				// The forwarder's worker dies; what the next one does is the same.
				nodes[0].run(t, "nic replace")
				largeFromTunnel(t, nodes)
			})
		}
	}
}

// largeFromTunnel has a pod send much, and looks at what its host gets of it: packets
// that are larger than any that the wire takes.
func largeFromTunnel(t *testing.T, nodes []*node) {
	t.Helper()
	server := nodes[1].start(t, "serving", "ip netns exec pod nic serve")
	defer stop(t, server)
	n := nodes[0]
	counter := func(name string) int {
		text := n.run(t, "nic cat /sys/class/net/netio0/statistics/"+name)
		count, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			t.Fatal(err)
		}
		return count
	}
	packets, bytes := counter("rx_packets"), counter("rx_bytes")
	n.inPod(t, "nic talk 10.0.2.2 4")
	packets, bytes = counter("rx_packets")-packets, counter("rx_bytes")-bytes
	if packets == 0 || bytes/packets <= nicMTU {
		t.Errorf("%d packets of %d bytes came to the host: none of them was large", packets, bytes)
	}
	t.Logf("%d packets of %d bytes came to the host", packets, bytes)
}

// forwards has the host forward packets of both families.
func (n *node) forwards(t *testing.T) {
	t.Helper()
	for _, file := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := n.Write(t.Context(), "/proc/sys/net/"+file, "1"); err != nil {
			t.Fatal(err)
		}
	}
}

func tunnelEnd(six bool, number int) string {
	if six {
		return fmt.Sprintf("fd79::%d", number)
	}
	return fmt.Sprintf("198.51.100.%d", number)
}

func wireAddress(six bool, number int) string {
	if six {
		return fmt.Sprintf("2001:db8::%d", number)
	}
	return fmt.Sprintf("192.0.2.%d", number)
}
