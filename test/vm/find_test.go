// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	for _, test := range []struct {
		name, about string
		want        Series
		err         string
	}{
		{
			name:  "fetched",
			about: "series=x\nrelease=6.1.0-1-amd64\nkdir=/k\nimage=/i\nmodules=/m\ncc=gcc-12\ntools=\narch=x86_64\n",
			want:  Series{Name: "x", Release: "6.1.0-1-amd64", Image: "/i", Modules: "/m"},
		}, {
			name:  "compiled",
			about: "release=6.1.1\nimage=/linux\nmodules=\narch=um\nsettings=1234\n",
			want:  Series{Name: "x", Release: "6.1.1", Image: "/linux", UML: true, Debug: true},
		},
		{name: "empty", about: "", err: "no release"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cache := t.TempDir()
			dir := filepath.Join(cache, "series/x")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "about"), []byte(test.about), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := find(cache, "x")
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, want %q", err, test.err)
				}
				return
			}
			if err != nil || got != test.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	if _, err := find(t.TempDir(), "6.1"); !errors.Is(err, ErrNoKernel) {
		t.Errorf("got %v, want ErrNoKernel", err)
	}
}
