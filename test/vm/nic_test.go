// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

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

// startNodesOn is startNodes with more to choose, and a machine at each of wires.
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
	var configs []vm.Config
	for _, wire := range wires {
		c.Wires = []vm.Wire{wire}
		configs = append(configs, c)
	}
	var nodes []*node
	for i, m := range vm.StartAll(t, configs...) {
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

// instructionClock is a machine whose clock counts its instructions. Where a processor
// clears or copies a buffer by one instruction, the emulator counts each byte, so
// that one is left out where it can be, and the others take eight bytes at a time.
// (It would be the adapter's: the NIC's own driver has pages cleared.)
func instructionClock(series vm.Series) vm.Config {
	return vm.Config{
		Series: series, CPUs: 1, Append: "init_on_alloc=0",
		QEMU: []string{"-icount", "shift=2", "-cpu", "max,-la57,-cx16,-erms,-fsrm"},
	}
}

// nicLoads are how many packets come to a NIC at once.
var nicLoads = []struct {
	name   string
	frames int
	pause  time.Duration
}{
	{"16 at once", 16, 10 * time.Millisecond},
	// Last: the emulator keeps all that the machine has not taken yet.
	{"as fast as it takes them", 1024, 0},
}

// TestNICRate tells how many packets a second of a busy CPU a NIC as a port
// receives, for a process that counts them and frees their nbufs, whose own part
// is in the figure. The host's speed does not matter, and time without work is left
// out.
func TestNICRate(t *testing.T) {
	series := nicSeries(t)[0]
	rates := map[string][]float64{}
	for _, driver := range nicDrivers {
		t.Run(driver.name, func(t *testing.T) {
			wire, line := vm.NewLine(t)
			go io.Copy(io.Discard, line) // what the machine asks its neighbours
			n := startNodesOn(t, instructionClock(series), nicMTU, wire)[0]
			driver.use(n, t)
			n.configure(t)
			n.connect(t, "-drop")
			mac, err := net.ParseMAC(wire.MAC)
			if err != nil {
				t.Fatal(err)
			}
			frame := udpFrame(t, n, mac)
			for _, load := range nicLoads {
				rate := n.measureLoad(t, line, bytes.Repeat(frame, load.frames), load.pause)
				t.Logf("%s, %s: %.0f packets/s of a busy CPU", driver.name, load.name, rate)
				rates[driver.name] = append(rates[driver.name], rate)
			}
			stop(t, n.forward)
		})
	}
	for i, load := range nicLoads {
		t.Logf("native / adapter, %s: %.2f", load.name, rates["native"][i]/rates["adapter"][i])
	}
}

// measureLoad sends a burst of frames to the pod, again and again with a pause
// between, and returns how many packets a second of a busy CPU the forwarder gets.
func (n *node) measureLoad(t *testing.T, line net.Conn, burst []byte, pause time.Duration) float64 {
	t.Helper()
	end, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-end:
				ended <- nil
				return
			case <-time.After(pause):
			}
			if _, err := line.Write(burst); err != nil {
				ended <- err
				return
			}
		}
	}()
	defer func() {
		close(end)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	// The first report is of the time before as well.
	reports := func() [][]string { return receivedReport.FindAllStringSubmatch(n.forward.Output(), -1) }
	before := len(reports()) + 1
	await(t, "packets", func() bool { return len(reports()) >= before+2 })
	var packets, busy float64
	for _, r := range reports()[before:] {
		received, _ := strconv.Atoi(r[1])
		us, _ := strconv.Atoi(r[2])
		packets, busy = packets+float64(received), busy+float64(us)
	}
	return packets * 1e6 / busy
}

var receivedReport = regexp.MustCompile(`received (\d+), .*, busy for (\d+) us`)

// udpFrame is a small packet to the pod of a node, as it goes over a line.
func udpFrame(t *testing.T, n *node, mac net.HardwareAddr) []byte {
	t.Helper()
	ip := &layers.IPv4{
		Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP,
		SrcIP: net.IPv4(10, 0, byte(3-n.number), 2), DstIP: net.IPv4(10, 0, byte(n.number), 2),
	}
	udp := &layers.UDP{SrcPort: 9, DstPort: 9}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 0xff}, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4},
		ip, udp, gopacket.Payload(make([]byte, 18)))
	if err != nil {
		t.Fatal(err)
	}
	frame := b.Bytes()
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)
}
