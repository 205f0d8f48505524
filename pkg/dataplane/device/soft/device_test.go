// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"errors"
	"testing"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

func TestNewClose(t *testing.T) {
	d, err := New(Config{Name: "t"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := d.Area().Header()
	if h.Device != abi.DevSoft || h.Features&abi.FeatSelfService == 0 || h.NbufCount != DefaultNbufs {
		t.Errorf("header %+v", h)
	}
	if err := d.Kick(0); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := d.Kick(0); !errors.Is(err, device.ErrClosed) {
		t.Errorf("Kick after Close: %v", err)
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []Config{{Lanes: 65}, {Nbufs: -1}, {Ports: 1}, {ParkedSlots: -2}, {Name: "a name that is longer than 31 bytes"}} {
		if d, err := New(c, nil); err == nil {
			d.Close()
			t.Errorf("%+v was accepted", c)
		}
	}
}
