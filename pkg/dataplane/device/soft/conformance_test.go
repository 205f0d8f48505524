// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/device/devicetest"
)

func TestConformance(t *testing.T) {
	devicetest.Run(t, devicetest.Harness{
		Create: func(t testing.TB, c devicetest.Config) devicetest.Instance {
			cfg := Config{Name: "conformance", Lanes: c.Lanes, Nbufs: c.Nbufs, Ports: c.Ports, ParkedSlots: c.ParkedBytes / slotSize}
			i := &instance{cfg: cfg, store: NewStore()}
			if c.Start != 0 {
				i.startAt(t, c.Start)
			}
			return i
		},
		Child: func(_ string, files []*os.File) (device.Device, error) { return connect(files[0], Config{}) },
	})
}

// instance is kept by a Store of this process.
type instance struct {
	cfg   Config
	store *Store
}

func (i *instance) Attach() (device.Device, error) {
	f, err := i.store.Connect()
	if err != nil {
		return nil, err
	}
	return connect(f, i.cfg)
}

func connect(f *os.File, c Config) (device.Device, error) {
	conn, err := NewKeeperConn(f)
	if err != nil {
		return nil, err
	}
	files, err := conn.Files()
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return New(c, conn)
	}
	return Attach(files, conn)
}

func (i *instance) Export() (string, []*os.File, error) {
	f, err := i.store.Connect()
	return "", []*os.File{f}, err
}

func (i *instance) Destroy() error {
	left := strings.Join(i.store.Names(), " ")
	err := i.store.Close()
	if left != "area owner state" {
		err = errors.Join(err, fmt.Errorf("the keeper holds %q at the end", left))
	}
	return err
}

// startAt leaves an instance as a process would that died at the given ring
// position.
func (i *instance) startAt(t testing.TB, pos uint32) {
	c := i.cfg.withDefaults()
	mem, err := newMemory(c)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.close()
	st, err := initState(mem.state, c)
	if err != nil {
		t.Fatal(err)
	}
	for l := range st.lanes {
		st.lanes[l] = laneState{outqHead: pos, inqTail: pos}
	}
	event, err := newOwnerEvent()
	if err != nil {
		t.Fatal(err)
	}
	for name, fd := range map[string]int{areaFile: int(mem.areaFile.Fd()), stateFile: int(mem.stateFile.Fd())} {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		i.store.files[name] = dup
	}
	i.store.files[ownerFile] = event
}
