// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"netio.dev/netio/test/vm"
)

// Bits of virtio-net's features (virtio specification, section 5.1.3).
var offloads = map[string]int{
	"CSUM": 0, "GUEST_CSUM": 1, "GUEST_TSO4": 7, "GUEST_TSO6": 8, "HOST_TSO4": 11, "HOST_TSO6": 12, "MRG_RXBUF": 15, "MQ": 22,
}

// TestOffloads joins two machines by NICs that take packets of 64 KiB, with
// checksums that are not made yet, by several queues. Where one machine's NIC
// does nothing of that, the wire cuts the other's packets and makes their
// checksums, and the kernel at the end verifies them.
func TestOffloads(t *testing.T) {
	const queues = 2
	const none = "csum=off,host_tso4=off,host_tso6=off,host_ufo=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off"
	for _, series := range nicSeries(t) {
		for _, driver := range nicDrivers {
			for name, options := range map[string]string{"both": "", "one": none} {
				t.Run(filepath.Join(series.Name, driver.name, name), func(t *testing.T) {
					one, other := vm.NewTaps(t, queues, tapMTU)
					other.Options = options
					nodes := startNodesOn(t, vm.Config{Series: series, CPUs: queues}, tapMTU, one, other)
					for _, n := range nodes {
						driver.use(n, t)
						n.configure(t)
						n.connect(t, "")
					}
					exchange(t, nodes)
					servers := [2]*vm.Process{}
					for i, n := range nodes {
						servers[i] = n.start(t, "serving", "ip netns exec pod nic serve")
					}
					for i, n := range nodes {
						t.Log(strings.TrimSpace(n.inPod(t, fmt.Sprintf("nic talk 10.0.%d.2 8", nodes[1-i].number))))
					}
					for i, n := range nodes {
						stop(t, servers[i])
						if wrong := n.errors(t); wrong != "" {
							t.Errorf("node %d: %s", n.number, wrong)
						}
						n.queuesUsed(t, queues)
						able := i == 0 || options == ""
						if features := n.features(t); able && len(features) != len(offloads) || !able && (features["CSUM"] || features["GUEST_CSUM"]) {
							t.Errorf("node %d has %v of %v", n.number, features, offloads)
						}
					}
					// From the pod always; by the wire where it carries them.
					n := nodes[0]
					if got := strings.Count(n.forward.Output(), "large packets from port"); options == "" && got != 2 {
						t.Errorf("large packets came from %d ports, want 2", got)
					}
				})
			}
		}
	}
}

// features are those of offloads that the NIC's driver has agreed upon.
func (n *node) features(t *testing.T) map[string]bool {
	t.Helper()
	bits := strings.TrimSpace(n.run(t, "nic cat /sys/class/net/eth0/device/features"))
	has := map[string]bool{}
	for name, bit := range offloads {
		if bits[bit] == '1' {
			has[name] = true
		}
	}
	return has
}

// queuesUsed fails unless each of the NIC's queues has raised interrupts.
func (n *node) queuesUsed(t *testing.T, queues int) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^ *\d+:([ 0-9]+).* virtio\d+-input\.(\d+)$`)
	used := map[string]bool{}
	for _, m := range line.FindAllStringSubmatch(n.run(t, "nic cat /proc/interrupts"), -1) {
		for _, count := range strings.Fields(m[1]) {
			if c, _ := strconv.Atoi(count); c > 0 {
				used[m[2]] = true
			}
		}
	}
	if len(used) != queues {
		t.Errorf("node %d: packets came in by the queues %v, want %d", n.number, used, queues)
	}
}
