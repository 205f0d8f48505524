// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

func TestConfig(t *testing.T) {
	for want, c := range map[string]Config{
		`instance name ""`:               {},
		`instance name "a\x00b"`:         {Name: "a\x00b"},
		"want 1 to 31 bytes":             {Name: strings.Repeat("n", 32)},
		"Lanes is 65, want 1 to 64":      {Name: "n", Lanes: 65},
		"Nbufs is -1, want 1 to":         {Name: "n", Nbufs: -1},
		"Ports is 1, want 2 to":          {Name: "n", Ports: 1},
		"ParkedBytes is 4294967296":      {Name: "n", ParkedBytes: 1 << 32},
		"no /proc/none: the kernel modu": {Name: "n", Path: "/proc/none"},
		"no NetIO device":                {Name: "n", Path: "/dev/null"},
	} {
		if d, err := Open(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%+v) = %v, %v, want %q", c, d, err, want)
		}
	}
	a := Config{Name: strings.Repeat("n", 31), Lanes: 2, Nbufs: 3, Ports: 4, ParkedBytes: 5, TakeOver: true, Existing: true}.attach()
	if a.ABIVersion != abi.Version || a.Flags != 3 || cstring(a.Name[:]) != strings.Repeat("n", 31) || a.Name[31] != 0 ||
		a.Lanes != 2 || a.NbufCount != 3 || a.PortMax != 4 || a.ParkedMax != 5 {
		t.Errorf("request %+v", a)
	}
	if j := (Config{Name: "n", TakeOver: true, Lanes: 4}).join(); j.Flags != attachJoin || j.Lanes != 0 {
		t.Errorf("request %+v", j)
	}
}

func TestErrors(t *testing.T) {
	c := Config{Name: "n", Nbufs: 7}.withDefaults()
	attachErr := func(errno unix.Errno, a attach) error {
		a.ABIVersion = 3<<16 | 4
		return attachError(c, &a, errno)
	}
	join := attach{Flags: attachJoin}
	for _, tc := range []struct {
		err  error
		is   error
		says string
	}{
		{openError("/dev/netio", unix.ENOENT), ErrNoModule, "no /dev/netio: the kernel module netio is not loaded; load it with `netio-agent kmod load`"},
		{openError("/dev/netio", unix.ENODEV), ErrNoModule, "no driver behind /dev/netio"},
		{openError("/dev/netio", unix.ENXIO), ErrNoModule, "kmod load"},
		{openError("/dev/netio", unix.EACCES), fs.ErrPermission, "run as root"},
		{openError("/dev/netio", unix.EPERM), fs.ErrPermission, "in a container allow the device"},
		{openError("/dev/netio", unix.EMFILE), unix.EMFILE, "open /dev/netio"},
		{attachErr(unix.EPROTO, attach{}), device.ErrVersion, "/dev/netio has 3.4, this process needs " + abi.VersionString(abi.Version)},
		{attachErr(unix.EPROTO, join), device.ErrVersion, "3.4"},
		{attachErr(unix.EBUSY, attach{}), ErrBusy, `instance "n": another process owns`},
		{attachErr(unix.EPERM, attach{}), fs.ErrPermission, "CAP_NET_ADMIN"},
		{attachErr(unix.EPERM, join), device.ErrNotOwner, ""},
		{attachErr(unix.EOWNERDEAD, join), device.ErrNotOwner, ""},
		{attachErr(unix.ENOENT, attach{}), fs.ErrNotExist, `no instance "n"`},
		{attachErr(unix.ENOMEM, attach{}), unix.ENOMEM, "7 nbufs"},
		{attachErr(unix.EINVAL, attach{}), unix.EINVAL, "refuses the name, or 0 lanes, 7 nbufs"},
		{attachErr(unix.ENOTTY, attach{}), unix.ENOTTY, "no NetIO device"},
		{attachErr(unix.EIO, attach{}), unix.EIO, `instance "n"`},
	} {
		if !errors.Is(tc.err, tc.is) || !strings.Contains(tc.err.Error(), tc.says) {
			t.Errorf("%v: want %q (%v)", tc.err, tc.says, tc.is)
		}
	}
}

func TestAvailable(t *testing.T) {
	if _, err := Available(filepath.Join(t.TempDir(), "netio")); !errors.Is(err, ErrNoModule) {
		t.Errorf("no device node: %v", err)
	}
	if _, err := Available("/dev/null"); err == nil || errors.Is(err, ErrNoModule) {
		t.Errorf("another device: %v", err)
	}
}
