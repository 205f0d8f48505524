// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	paint := &app{color: true}
	tab := newTable(left("NAME"), right("COUNT"), []column{{title: "STATE", paint: paint.verdict}}, left("NOTE"))
	tab.add("ä", "1", "up", "one\ntwo")
	tab.add("long name", "12345", "down", "")
	tab.add("esc\x1b[2J", "", "", "\xff")
	var b strings.Builder
	if err := tab.write(&b); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"NAME        COUNT   STATE   NOTE",
		"ä               1   " + green + "up" + plain + "      one",
		"                            two",
		"long name   12345   " + red + "down" + plain + "    -",
		"esc?[2J         -   -       ?",
		"",
	}, "\n")
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}
