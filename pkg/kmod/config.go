// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxConfig bounds what is read of a kernel's configuration, in bytes; those of
// distributions have 300 kB.
const maxConfig = 8 << 20

// ErrConfig is returned for text that is not a kernel's configuration.
var ErrConfig = errors.New("not a kernel configuration")

// Config is a kernel's configuration: values by name, without CONFIG_. What "is not
// set" is there with the value "n"; strings are without their quotes.
type Config map[string]string

// ParseConfig reads a .config, which may be gzipped (Documentation/kbuild/kconfig.rst).
// Errors are ErrConfig and those of reading.
func ParseConfig(r io.Reader) (Config, error) {
	b := bufio.NewReader(r)
	if magic, _ := b.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
		b = bufio.NewReader(z)
	}
	c := Config{}
	lines := bufio.NewScanner(io.LimitReader(b, maxConfig))
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if name, ok := strings.CutPrefix(line, "# CONFIG_"); ok {
			if name, ok := strings.CutSuffix(name, " is not set"); ok {
				c[name] = "n"
			}
			continue
		}
		setting, ok := strings.CutPrefix(line, "CONFIG_")
		if !ok {
			continue
		}
		name, value, ok := strings.Cut(setting, "=")
		if !ok || name == "" {
			continue
		}
		c[name] = unquote(value)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if len(c) == 0 {
		return nil, ErrConfig
	}
	return c, nil
}

// unquote takes the quotes from a Kconfig string, where \ stands before " and \.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	s = s[1 : len(s)-1]
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// On tells whether an option is built in or a module.
func (c Config) On(name string) bool { return c[name] == "y" || c[name] == "m" }

// Off tells whether an option is known to be off; an option that does not appear in
// a configuration may be one that this kernel does not know.
func (c Config) Off(name string) bool { return c[name] == "n" }
