// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/device/devicetest"
)

// needVar makes a machine without the device a failure: it is set where the
// module has just been loaded.
const needVar = "NETIO_TEST_KERNEL_DEVICE"

// startPosition is the module's parameter for the ring position that new instances
// begin at.
const startPosition = "/sys/module/netio/parameters/start_position"

func TestConformance(t *testing.T) {
	needDevice(t)
	devicetest.Run(t, harness())
}

// needDevice skips a test where the module is not loaded.
func needDevice(t *testing.T) {
	t.Helper()
	switch _, err := Available(""); {
	case err == nil || os.Getuid() != 0:
	case errors.Is(err, ErrNoModule) && os.Getenv(needVar) != "1":
		t.Skipf("%v; make test-vm runs it in a virtual machine", err)
	default:
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// TestHostile has a process that means ill work on the device, for as long as
// -hostile says.
func TestHostile(t *testing.T) {
	if *hostileFlag == 0 {
		t.Skip("no -hostile")
	}
	devicetest.Hostile(t, harness(), *hostileFlag)
}

// TestFaults has allocations fail, where the kernel can do that: see
// devicetest.Faults.
func TestFaults(t *testing.T) {
	if !*faultsFlag {
		t.Skip("no -faults")
	}
	devicetest.Faults(t, harness(), func(t *testing.T) string {
		t.Helper()
		users, err := os.ReadFile("/sys/module/netio/refcnt")
		if err != nil {
			t.Fatal(err)
		}
		return string(users)
	})
	t.Run("NIC", nicFaults)
}

var faultsFlag = flag.Bool("faults", false, "have allocations fail in TestFaults: for a machine of its own")

var killsFlag = flag.Int("kills", 0, "how often OwnerDeath kills the owner; 0 for ten times")

var hostileFlag = flag.Duration("hostile", 0, "how long TestHostile runs")

func harness() devicetest.Harness {
	return devicetest.Harness{
		Kills: *killsFlag,
		Create: func(t testing.TB, c devicetest.Config) devicetest.Instance {
			if err := os.WriteFile(startPosition, fmt.Append(nil, c.Start), 0); err != nil {
				t.Fatal(err)
			}
			return &instance{Config{
				Name:  fmt.Sprintf("conformance-%d-%d", os.Getpid(), instances.Add(1)),
				Lanes: c.Lanes, Nbufs: c.Nbufs, Ports: c.Ports, ParkedBytes: c.ParkedBytes, TakeOver: true,
			}}
		},
		Child: func(word string, _ []*os.File) (device.Device, error) {
			return Open(Config{Name: word, TakeOver: true, Existing: true})
		},
	}
}

var instances atomic.Uint32

// instance is made by its first Attach.
type instance struct{ Config }

func (i *instance) Attach() (device.Device, error) { return Open(i.Config) }

func (i *instance) Export() (string, []*os.File, error) { return i.Name, nil, nil }

func (i *instance) Destroy() error {
	c := i.Config
	c.Existing = true
	d, err := Open(c)
	if err != nil {
		return err
	}
	ports, err := d.Ports()
	if err == nil && len(ports) > 0 {
		err = fmt.Errorf("ports at the end: %+v", ports)
	}
	return errors.Join(err, d.Destroy())
}
