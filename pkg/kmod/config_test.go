// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const someConfig = `#
# Automatically generated file; DO NOT EDIT.
#
CONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14) 12.2.0"
CONFIG_GCC_VERSION=120200
CONFIG_MODULES=y
CONFIG_TUN=m
# CONFIG_MODULE_SIG_FORCE is not set
CONFIG_EMPTY=""
CONFIG_ODD="a \"b\" \\c"
CONFIG_BROKEN
nonsense
`

func TestParseConfig(t *testing.T) {
	want := Config{
		"CC_VERSION_TEXT": "gcc-12 (Debian 12.2.0-14) 12.2.0", "GCC_VERSION": "120200", "MODULES": "y", "TUN": "m",
		"MODULE_SIG_FORCE": "n", "EMPTY": "", "ODD": `a "b" \c`,
	}
	packed := pack(t, []byte(someConfig), func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
	for name, text := range map[string]string{"plain": someConfig, "gzipped": packed} {
		c, err := ParseConfig(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(want, c); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		if !c.On("MODULES") || !c.On("TUN") || c.On("MODULE_SIG_FORCE") || !c.Off("MODULE_SIG_FORCE") || c.Off("UNHEARD_OF") {
			t.Errorf("%s: On and Off do not tell what is in it", name)
		}
	}
	for name, text := range map[string]string{"empty": "", "text": "hello\n", "gzip cut short": packed[:len(packed)/2], "gzip header": "\x1f\x8b", "a long line": strings.Repeat("x", 100_000)} {
		if _, err := ParseConfig(strings.NewReader(text)); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: error %v, expected ErrConfig", name, err)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(someConfig))
	f.Add([]byte("\x1f\x8b\x08"))
	f.Add([]byte("CONFIG_A=\"\\\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(bytes.NewReader(b))
		if (err == nil) == (len(c) == 0) {
			t.Errorf("%d settings, error %v", len(c), err)
		}
		for name := range c {
			if c.On(name) && c.Off(name) {
				t.Errorf("%s is on and off", name)
			}
		}
	})
}
