// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"netio.dev/netio/test/vm"
)

// TestUplink joins the pods of two machines by netio-agent forward, with the
// machines' NICs as uplinks:
//
//	10.0.1.2 pod ── knet ── forwarder ── eth0 192.0.2.1
//	                                          │
//	10.0.2.2 pod ── knet ── forwarder ── eth0 192.0.2.2
func TestUplink(t *testing.T) {
	for _, series := range nicSeries(t) {
		for _, driver := range nicDrivers {
			t.Run(filepath.Join(series.Name, driver.name), func(t *testing.T) {
				agent := vm.File{Guest: "/bin/netio-agent", Host: vm.Build(t, "./cmd/netio-agent")}
				nodes := startNodes(t, series, 2, agent)
				for _, n := range nodes {
					driver.use(n, t)
					n.configure(t)
					n.startAgent(t)
					n.apply(t, fmt.Sprintf(`{"snapshot": {
						"revision": 1,
						"settings": {"ipv4": "10.0.%[1]d.1", "ipv6": "fd00:%[1]d::1"},
						"ports": [
							{"name": "pod", "kind": "POD", "ifname": "eth0", "netns": "/run/netns/pod", "mtu": %[2]d, "addresses": ["10.0.%[1]d.2", "fd00:%[1]d::2"]},
							%[3]s
						],
						"routes": [{"prefix": "0.0.0.0/0", "port": "wire"}, {"prefix": "::/0", "port": "wire"}]}}`, n.number, n.mtu, n.uplink()))
					n.configurePod(t)
				}
				exchange(t, nodes)

				n := nodes[0]
				ports := n.ports(t)
				n.run(t, "nic replace")
				exchange(t, nodes)
				// Both processes die; what there is in the kernel waits for the next ones.
				stop(t, n.forward)
				n.startAgent(t)
				exchange(t, nodes)
				if got := n.ports(t); got != ports {
					t.Errorf("after restarts the ports are\n%swant\n%s", got, ports)
				}
				uplinkGoes(t, nodes)
			})
		}
	}
}

// uplinkGoes takes the first machine's uplink away, and has it come back.
func uplinkGoes(t *testing.T, nodes []*node) {
	n := nodes[0]
	// The driver, and with it the interface.
	device := path.Base(strings.TrimSpace(n.run(t, "nic link /sys/class/net/eth0/device")))
	driver := path.Base(strings.TrimSpace(n.run(t, "nic link /sys/class/net/eth0/device/driver")))
	for _, what := range []string{"unbind", "bind"} {
		if err := n.Write(t.Context(), "/sys/bus/virtio/drivers/"+driver+"/"+what, device); err != nil {
			t.Fatal(err)
		}
		if what == "unbind" {
			await(t, "word of the interface's end", func() bool { return strings.Contains(n.ports(t), "no such network interface") })
		}
	}
	n.configure(t)
	await(t, "uplink that is up", func() bool { return !strings.Contains(n.ports(t), "down") })
	exchange(t, nodes)

	// The configuration's part: the interface is the host's as it was.
	n.apply(t, `{"delta": {"base_revision": 1, "revision": 2, "delete_ports": ["wire"], "delete_routes": ["0.0.0.0/0", "::/0"]}}`)
	n.run(t, "ping -c 3 -i 0.2 -w 10 192.0.2.2")
	if r, err := n.Run(t.Context(), vm.Command{Args: strings.Fields("ip netns exec pod ping -c 1 -w 2 10.0.2.2")}); err != nil || r.Code == 0 {
		t.Errorf("without an uplink: %v, %s", err, r.Output)
	}
	n.apply(t, fmt.Sprintf(`{"delta": {"base_revision": 2, "revision": 3, "ports": [%s], "routes": [{"prefix": "0.0.0.0/0", "port": "wire"}, {"prefix": "::/0", "port": "wire"}]}}`, n.uplink()))
	exchange(t, nodes)
}

// uplink is the NIC's port.
func (n *node) uplink() string {
	return fmt.Sprintf(`{"name": "wire", "kind": "UPLINK", "ifname": "eth0", "mtu": %[2]d, "steer": ["10.0.%[1]d.0/24", "fd00:%[1]d::/64"]}`, n.number, n.mtu)
}

func (n *node) startAgent(t *testing.T) {
	t.Helper()
	n.forward = n.start(t, "msg=forwarding", "netio-agent forward --device kernel --instance nic")
}

func (n *node) apply(t *testing.T, request string) {
	t.Helper()
	n.MustRun(t, vm.Command{Args: []string{"nic", "apply", request}})
}

func (n *node) ports(t *testing.T) string {
	t.Helper()
	return n.run(t, "nic ports")
}

func (n *node) run(t *testing.T, args string) string {
	t.Helper()
	return n.MustRun(t, vm.Command{Args: strings.Fields(args)}).Output
}
