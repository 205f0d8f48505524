// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"io"
	"strings"
	"testing"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device/kernel"
)

func TestChooseDevice(t *testing.T) {
	there := func() (uint32, error) { return abi.Version, nil }
	none := func() (uint32, error) { return 0, errors.New("no /dev/netio: load it") }
	for _, c := range []struct {
		asked     string
		runs      string
		available func() (uint32, error)
		chosen    string
		says      string
	}{
		{"auto", "", there, "kernel", "ABI " + abi.VersionString(abi.Version)},
		{"auto", "", none, "soft", "no /dev/netio: load it"},
		{"auto", "soft", there, "soft", "the forwarder that runs has it"},
		{"auto", "soft", none, "soft", "the forwarder that runs has it"},
		{"auto", "kernel", there, "kernel", "/dev/netio is there"},
		{"auto", "kernel", none, "", "which this one cannot use: no /dev/netio: load it"},
		{"kernel", "", there, "kernel", "/dev/netio is there"},
		{"kernel", "soft", there, "kernel", "/dev/netio is there"}, // and is refused by what runs
		{"kernel", "", none, "", "--device kernel: no /dev/netio: load it"},
		{"soft", "kernel", nil, "soft", "--device soft"},
	} {
		chosen, why, err := chooseDevice(c.asked, c.runs, c.available)
		if err != nil {
			why = err.Error()
		}
		if chosen != c.chosen || (err != nil) != (c.chosen == "") || !strings.Contains(why, c.says) {
			t.Errorf("%s, %q runs: %q, %q, %v; want %q, %q", c.asked, c.runs, chosen, why, err, c.chosen, c.says)
		}
	}
}

func TestFits(t *testing.T) {
	o := options{lanes: 2, nbufs: 1000}
	for h, want := range map[abi.AreaHeader]bool{
		{Lanes: 2, NbufCount: 1000}: true,
		{Lanes: 2, NbufCount: 1024}: true,
		{Lanes: 1, NbufCount: 1000}: false,
		{Lanes: 2, NbufCount: 999}:  false,
		{Lanes: 2, NbufCount: 2000}: false,
	} {
		if got := o.fits(&h); got != want {
			t.Errorf("%d lanes, %d nbufs: %v", h.Lanes, h.NbufCount, got)
		}
	}
}

// TestNoModule: who asks for the kernel device by name is told at once, and gets
// no other.
func TestNoModule(t *testing.T) {
	if _, err := kernel.Available(""); !errors.Is(err, kernel.ErrNoModule) {
		t.Skip("there is a kernel device: ", err)
	}
	cmd := NewCommand("test")
	cmd.SetArgs([]string{"--device", "kernel", "--run-dir", t.TempDir()})
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	if err := cmd.Execute(); !errors.Is(err, kernel.ErrNoModule) {
		t.Errorf("error %v", err)
	}
}
