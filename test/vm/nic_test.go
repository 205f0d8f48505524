// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"netio.dev/netio/test/vm"
)

const (
	nicMTU = 9000 // of wire, NIC and pod, where nothing else is said
	tapMTU = 1500 // so that packets are larger than it
)

// node is a machine with one pod and a NIC, both ports of one instance.
type node struct {
	*vm.Machine
	number  int
	mtu     int // of wire, NIC and pod
	forward *vm.Process
}

// startNodes boots two machines on a wire, and loads netio.ko. Their pods are
// 10.0.N.2 and fd00:N::2.
func startNodes(t *testing.T, series vm.Series, cpus int, files ...vm.File) []*node {
	t.Helper()
	one, other := vm.NewWire(t.TempDir())
	return startNodesOn(t, vm.Config{Series: series, CPUs: cpus, Files: files}, nicMTU, one, other)
}

// startNodesOn is startNodes with more to choose.
func startNodesOn(t *testing.T, c vm.Config, mtu int, wires ...vm.Wire) []*node {
	t.Helper()
	series, files := c.Series, c.Files
	for _, name := range []string{"ip", "ping"} {
		program, err := vm.Program(name)
		if err != nil {
			t.Skip(err)
		}
		files = append(files, program...)
	}
	files = append(files, vm.ModuleFiles(vm.KernelModules(t, series)...)...)
	files = append(files, vm.File{"/bin/nic", vm.Build(t, "./test/vm/nic")})
	c.Modules, c.Files = []string{"virtio_pci", "virtio_net"}, files
	config := func(wire vm.Wire) vm.Config {
		c := c
		c.Wires = []vm.Wire{wire}
		return c
	}
	var nodes []*node
	for i, m := range vm.StartAll(t, config(wires[0]), config(wires[1])) {
		n := &node{Machine: m, number: i + 1, mtu: mtu}
		nodes = append(nodes, n)
		if err := m.Insert(t.Context(), "/modules/netio.ko"); err != nil {
			t.Fatal(err)
		}
		n.ip(t, "netns add pod")
		n.ip(t, "-n pod link set lo up")
	}
	return nodes
}

func (n *node) ip(t *testing.T, args string) string {
	t.Helper()
	return n.MustRun(t, vm.Command{Args: append([]string{"ip"}, strings.Fields(args)...)}).Output
}

// inPod runs a program in the pod.
func (n *node) inPod(t *testing.T, args string) string {
	t.Helper()
	return n.MustRun(t, vm.Command{Args: append(strings.Fields("ip netns exec pod"), strings.Fields(args)...), Timeout: 3 * time.Minute}).Output
}

// start starts a program, and waits until it says word.
func (n *node) start(t *testing.T, word, args string) *vm.Process {
	t.Helper()
	p, err := n.Start(vm.Command{Args: strings.Fields(args)})
	if err != nil {
		t.Fatal(err)
	}
	await(t, word+" from "+args, func() bool {
		if p.Ended() {
			t.Fatalf("%s has ended; its output:\n%s", args, p.Output())
		}
		return strings.Contains(p.Output(), word)
	})
	return p
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s", what)
		}
	}
}

// stop ends a program.
func stop(t *testing.T, p *vm.Process) {
	t.Helper()
	if err := p.Signal(t.Context(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.Wait(t.Context())
}

// configure gives the NIC its addresses and routes to the other's pod.
func (n *node) configure(t *testing.T) {
	other := 3 - n.number
	n.ip(t, fmt.Sprintf("link set eth0 mtu %d up", n.mtu))
	n.ip(t, fmt.Sprintf("addr replace 192.0.2.%d/24 dev eth0", n.number))
	n.ip(t, fmt.Sprintf("addr replace 2001:db8::%d/64 dev eth0 nodad", n.number))
	n.ip(t, fmt.Sprintf("route replace 10.0.%d.0/24 via 192.0.2.%d dev eth0", other, other))
	n.ip(t, fmt.Sprintf("-6 route replace fd00:%d::/64 via 2001:db8::%d dev eth0", other, other))
}

// connect starts the forwarder, and configures the pod.
func (n *node) connect(t *testing.T, flags string) {
	t.Helper()
	n.forward = n.start(t, "forwarding", fmt.Sprintf("nic forward -pod /run/netns/pod -mtu %d -local 10.0.%d.0/24,fd00:%d::/64 %s", n.mtu, n.number, n.number, flags))
	n.configurePod(t)
}

func (n *node) configurePod(t *testing.T) {
	t.Helper()
	n.ip(t, fmt.Sprintf("-n pod link set eth0 mtu %d up", n.mtu))
	n.ip(t, fmt.Sprintf("-n pod addr replace 10.0.%d.2/32 dev eth0", n.number))
	n.ip(t, fmt.Sprintf("-n pod addr replace fd00:%d::2/128 dev eth0 nodad", n.number))
	n.ip(t, "-n pod route replace default dev eth0")
	n.ip(t, "-n pod -6 route replace default dev eth0")
}

// errors are counters of the pod's and the host's kernel that tell of wrong
// packets; a zero is left out.
func (n *node) errors(t *testing.T) string {
	var found []string
	for _, where := range []string{"", "ip netns exec pod"} {
		for _, file := range []string{"/proc/net/snmp", "/proc/net/snmp6"} {
			out := n.MustRun(t, vm.Command{Args: append(strings.Fields(where), "nic", "errors", file)}).Output
			if out = strings.TrimSpace(out); out != "" {
				found = append(found, out)
			}
		}
	}
	return strings.Join(found, "\n")
}

// exchange has the pods talk with each other and the hosts too, all protocols.
func exchange(t *testing.T, nodes []*node) {
	t.Helper()
	for _, n := range nodes {
		server := n.start(t, "serving", "ip netns exec pod nic serve")
		defer stop(t, server)
	}
	// The hosts' own traffic goes as before.
	for _, host := range []string{"192.0.2.2", "2001:db8::2"} {
		nodes[0].MustRun(t, vm.Command{Args: strings.Fields("ping -c 3 -i 0.2 -w 10 " + host)})
	}
	for i, n := range nodes {
		other := nodes[1-i].number
		for _, pod := range []string{fmt.Sprintf("10.0.%d.2", other), fmt.Sprintf("fd00:%d::2", other)} {
			for _, size := range []int{56, n.mtu - 40 - 8} {
				n.inPod(t, fmt.Sprintf("ping -c 3 -i 0.2 -w 20 -M do -s %d %s", size, pod))
			}
			t.Log(strings.TrimSpace(n.inPod(t, "nic talk "+pod)))
		}
	}
	for _, n := range nodes {
		if wrong := n.errors(t); wrong != "" {
			t.Errorf("node %d: %s", n.number, wrong)
		}
	}
}

// nicSeries are the kernels for tests of NICs: none that has no wires.
func nicSeries(t *testing.T) []vm.Series {
	all := slices.DeleteFunc(chosenForNICs(t), func(s vm.Series) bool { return s.UML })
	if len(all) == 0 {
		t.Skip("User Mode Linux has no wires")
	}
	return all
}

// nicDrivers are how a NIC can be a port.
var nicDrivers = []struct {
	name string
	use  func(*node, *testing.T)
}{
	{"adapter", func(*node, *testing.T) {}},
	{"native", (*node).useNative},
}

// useNative has netio_virtio drive the NIC in virtio_net's place.
func (n *node) useNative(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	if err := n.Insert(ctx, "/modules/netio_virtio.ko"); err != nil {
		t.Fatal(err)
	}
	device := path.Base(strings.TrimSpace(n.MustRun(t, vm.Command{Args: strings.Fields("nic link /sys/class/net/eth0/device")}).Output))
	for _, w := range []struct{ file, text string }{
		{"/sys/module/netio_virtio/parameters/devices", device},
		{"/sys/bus/virtio/drivers/virtio_net/unbind", device},
		{"/sys/bus/virtio/drivers/netio_virtio/bind", device},
	} {
		if err := n.Write(ctx, w.file, w.text); err != nil {
			t.Fatal(err)
		}
	}
	if driver := n.MustRun(t, vm.Command{Args: strings.Fields("nic link /sys/class/net/eth0/device/driver")}).Output; !strings.Contains(driver, "netio_virtio") {
		t.Fatalf("the driver is %s", driver)
	}
}

// TestNIC joins two machines by NICs that are ports.
func TestNIC(t *testing.T) {
	for _, series := range nicSeries(t) {
		for _, driver := range nicDrivers {
			t.Run(filepath.Join(series.Name, driver.name), func(t *testing.T) {
				nodes := startNodes(t, series, 2)
				for _, n := range nodes {
					driver.use(n, t)
					n.configure(t)
					n.connect(t, "")
				}
				exchange(t, nodes)
				removeUnderTraffic(t, nodes)
			})
		}
	}
}

// removeUnderTraffic takes NICs away while packets flow, in all the ways that
// there are, and has them come back.
func removeUnderTraffic(t *testing.T, nodes []*node) {
	ctx := t.Context()
	flood := func(n *node) *vm.Process {
		p, err := n.Start(vm.Command{Args: strings.Fields(fmt.Sprintf("ip netns exec pod nic flood 10.0.%d.2 20s", 3-n.number))})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		return p
	}
	n := nodes[0]
	floods := []*vm.Process{flood(nodes[0]), flood(nodes[1])}

	// Down and up; another MTU; the port is told.
	n.ip(t, "link set eth0 down")
	await(t, "port that is down", func() bool { return strings.Contains(n.forward.Output(), "state 0x9\n") })
	n.ip(t, "link set eth0 up")
	n.configure(t)

	// The forwarder dies, and another one makes the port anew.
	stop(t, n.forward)
	n.connect(t, "")

	// It moves to another network namespace, and back.
	n.ip(t, "netns add other")
	n.ip(t, "link set eth0 netns other")
	await(t, "end of the port", func() bool { return strings.Contains(n.forward.Output(), "state 0x0\n") })
	n.ip(t, "-n other link set eth0 netns 1")
	stop(t, n.forward)
	n.configure(t)
	n.connect(t, "")

	// Its driver goes.
	device := path.Base(strings.TrimSpace(n.MustRun(t, vm.Command{Args: strings.Fields("nic link /sys/class/net/eth0/device")}).Output))
	driver := path.Base(strings.TrimSpace(n.MustRun(t, vm.Command{Args: strings.Fields("nic link /sys/class/net/eth0/device/driver")}).Output))
	if err := n.Write(ctx, "/sys/bus/virtio/drivers/"+driver+"/unbind", device); err != nil {
		t.Fatal(err)
	}
	await(t, "end of the port", func() bool { return strings.Contains(n.forward.Output(), "state 0x0\n") })
	if err := n.Write(ctx, "/sys/bus/virtio/drivers/"+driver+"/bind", device); err != nil {
		t.Fatal(err)
	}
	stop(t, n.forward)
	n.configure(t)
	n.connect(t, "")
	for _, p := range floods { // which may have ended
		p.Signal(ctx, syscall.SIGKILL)
		p.Wait(ctx)
	}
	exchange(t, nodes)
}

// TestNICRate tells how many packets a second a NIC as a port receives. The
// other machine cannot send as many, so time without work is left out. A machine's
// clock counts its instructions: what else the host has to do matters only by how
// many packets come at once, which is still much.
func TestNICRate(t *testing.T) {
	series := nicSeries(t)[0]
	received := regexp.MustCompile(`received (\d+) in \d+ ms, busy for (\d+) ms`)
	rates := map[string]float64{}
	for _, driver := range nicDrivers {
		t.Run(driver.name, func(t *testing.T) {
			one, other := vm.NewWire(t.TempDir())
			nodes := startNodesOn(t, vm.Config{Series: series, CPUs: 1, QEMU: []string{"-icount", "shift=2"}}, nicMTU, one, other)
			from, to := nodes[0], nodes[1]
			driver.use(to, t)
			for _, n := range nodes {
				n.configure(t)
			}
			to.connect(t, "-drop")
			from.MustRun(t, vm.Command{Args: strings.Fields("nic flood 10.0.2.2 10s"), Timeout: 3 * time.Minute})
			var packets, busy int
			for _, m := range received.FindAllStringSubmatch(to.forward.Output(), -1) {
				n, _ := strconv.Atoi(m[1])
				ms, _ := strconv.Atoi(m[2])
				packets, busy = packets+n, busy+ms
			}
			if packets == 0 || busy == 0 {
				t.Fatal("nothing was received")
			}
			rates[driver.name] = float64(packets*1000) / float64(busy)
			t.Logf("%s: %d packets, %.0f a second of a busy CPU", driver.name, packets, rates[driver.name])
			stop(t, to.forward)
		})
	}
	t.Logf("native / adapter: %.2f", rates["native"]/rates["adapter"])
}
