// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRelease(t *testing.T) {
	r, err := ParseRelease(strings.NewReader(`# comment
NAME=Fedora
ID=centos
ID_LIKE="rhel fedora"
VARIANT_ID='coreos'
PRETTY_NAME="CentOS \"Stream\" \\ \$9 \x"
BUG
=
`))
	want := Release{ID: "centos", Like: []string{"rhel", "fedora"}, Variant: "coreos", Name: `CentOS "Stream" \ $9 \x`}
	if d := cmp.Diff(want, r); d != "" || err != nil {
		t.Error(d, err)
	}
}

func TestHeadersCure(t *testing.T) {
	tests := []struct {
		os      Release
		release string
		want    string
	}{
		{Release{ID: "debian"}, "6.1.0-47-amd64", "apt-get install linux-headers-6.1.0-47-amd64"},
		{Release{ID: "ubuntu", Like: []string{"debian"}}, "6.8.0-45-generic", "apt-get install linux-headers-6.8.0-45-generic"},
		{Release{ID: "pop", Like: []string{"ubuntu", "debian"}}, "6.9.3-76060903-generic", "apt-get install linux-headers-6.9.3-76060903-generic"},
		{Release{ID: "fedora"}, "6.11.4-301.fc41.x86_64", "dnf install kernel-devel-6.11.4-301.fc41.x86_64"},
		{Release{ID: "rocky", Like: []string{"rhel", "centos", "fedora"}}, "5.14.0-427.el9.x86_64", "dnf install kernel-devel-5.14.0-427.el9.x86_64"},
		{Release{ID: "ol", Like: []string{"fedora"}}, "5.15.0-200.el9uek.x86_64", "dnf install kernel-uek-devel-5.15.0-200.el9uek.x86_64"},
		{Release{ID: "opensuse-leap", Like: []string{"suse"}}, "6.4.0-150600.21-default", "zypper install kernel-default-devel=6.4.0-150600.21"},
		{Release{ID: "arch"}, "6.6.54-1-lts", "pacman -S linux-lts-headers"},
		{Release{ID: "arch"}, "6.11.2-arch1-1", "pacman -S linux-headers"},
		{Release{ID: "alpine"}, "6.6.54-0-virt", "apk add linux-virt-dev"},
		{Release{ID: "talos"}, "6.6.54-talos", "Talos takes no packages"},
		{Release{ID: "cos"}, "6.1.100+", "Container-Optimized OS takes no packages"},
		{Release{ID: "fedora", Variant: "coreos"}, "6.11.4-301.fc41.x86_64", "CoreOS takes no packages"},
		{Release{ID: "ubuntu"}, "5.15.153.1-microsoft-standard-WSL2", "kernels of WSL"},
		{Release{}, "6.1.0", "development package) of kernel 6.1.0"},
	}
	for _, tt := range tests {
		if got := tt.os.headersCure(tt.release); !strings.Contains(got, tt.want) {
			t.Errorf("%v %s: %q, expected %q", tt.os, tt.release, got, tt.want)
		}
	}
}

func FuzzRelease(f *testing.F) {
	f.Add("ID=debian\nPRETTY_NAME=\"a\\\"b\"\n", "6.1.0-47-amd64")
	f.Add("ID_LIKE='x y'\nID=\"", "")
	f.Add("ID=arch", "-")
	f.Fuzz(func(t *testing.T, text, release string) {
		r, err := ParseRelease(strings.NewReader(text))
		if err == nil && r.headersCure(release) == "" {
			t.Error("no cure")
		}
	})
}
