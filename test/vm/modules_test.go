// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"slices"
	"testing"
)

func TestModuleOrder(t *testing.T) {
	all := parseDependencies(
		`kernel/net/bridge/bridge.ko: kernel/net/802/stp.ko kernel/net/llc/llc.ko
kernel/net/802/stp.ko.xz: kernel/net/llc/llc.ko
kernel/net/llc/llc.ko:
kernel/net/nf-tables.ko.zst: kernel/lib/libcrc32c.ko
kernel/lib/libcrc32c.ko:
kernel/crypto/crc32c-generic.ko:
kernel/drivers/a.ko: kernel/drivers/b.ko
kernel/drivers/b.ko: kernel/drivers/a.ko
`,
		"# comment\nsoftdep libcrc32c pre: crc32c\nsoftdep bridge post: llc\nsoftdep gone pre: llc\n",
		"alias crc32c crc32c_generic\nalias pci:* bridge\n")
	for _, test := range []struct {
		name  string
		names []string
		want  []string
	}{
		{"needs first", []string{"bridge"}, []string{"kernel/net/llc/llc.ko", "kernel/net/802/stp.ko.xz", "kernel/net/bridge/bridge.ko"}},
		{"once", []string{"llc", "bridge", "stp"}, []string{"kernel/net/llc/llc.ko", "kernel/net/802/stp.ko.xz", "kernel/net/bridge/bridge.ko"}},
		{"by alias, - and _ the same", []string{"nf_tables"}, []string{"kernel/crypto/crc32c-generic.ko", "kernel/lib/libcrc32c.ko", "kernel/net/nf-tables.ko.zst"}},
		{"built in", []string{"tcp"}, nil},
		{"a circle ends", []string{"a"}, []string{"kernel/drivers/b.ko", "kernel/drivers/a.ko"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := all.order(test.names); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
