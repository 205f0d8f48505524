// SPDX-License-Identifier: Apache-2.0

package sysctl

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadAndWrite(t *testing.T) {
	top := t.TempDir()
	d := Dir(top)
	if err := errors.Join(os.Mkdir(filepath.Join(top, "ipv4"), 0o755), os.WriteFile(filepath.Join(top, "ipv4/ip_forward"), []byte("0\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if is, err := d.Read("ipv4/ip_forward"); is != "0" || err != nil {
		t.Errorf("read %q, %v", is, err)
	}
	if err := d.Write("ipv4/ip_forward", "1"); err != nil {
		t.Error(err)
	}
	if is, err := d.Read("ipv4/ip_forward"); is != "1" || err != nil {
		t.Errorf("read %q, %v", is, err)
	}
	if _, err := d.Read("ipv4/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read: %v", err)
	}
	if err := d.Write("none/conf/eth0", "1"); err == nil || !strings.Contains(err.Error(), "net.none.conf.eth0 to 1") || !strings.Contains(err.Error(), top) {
		t.Errorf("write: %v", err)
	}
}

func TestDefault(t *testing.T) {
	if is := Dir("").Path("ipv4/ip_forward"); is != "/proc/sys/net/ipv4/ip_forward" {
		t.Error(is)
	}
}
