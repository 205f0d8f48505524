// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxModInfo bounds the section .modinfo, in bytes.
const maxModInfo = 1 << 20

// ErrModule is returned for a file that is no kernel module.
var ErrModule = errors.New("not a kernel module")

// ModInfo is what a module says of itself (modinfo(8)).
type ModInfo struct {
	Name       string      `json:"name"`
	Version    string      `json:"version,omitempty"`
	SrcVersion string      `json:"srcversion,omitempty"`
	Vermagic   string      `json:"vermagic"`          // release of its kernel, and options that must be the same
	ABI        string      `json:"abi,omitempty"`     // netio_abi: major.minor
	Depends    []string    `json:"depends,omitempty"` // modules that must be loaded before
	Parameters []string    `json:"parameters,omitempty"`
	Signature  *Signature  `json:"signature,omitempty"` // nil: not signed
	Machine    elf.Machine `json:"-"`
}

// ReadModInfo reads a module of this size in bytes. Errors are ErrModule,
// ErrSignature and those of reading.
func ReadModInfo(r io.ReaderAt, size int64) (*ModInfo, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	if f.Type != elf.ET_REL {
		return nil, fmt.Errorf("%w: %v, expected a relocatable object", ErrModule, f.Type)
	}
	s := f.Section(".modinfo")
	if s == nil || s.Type != elf.SHT_PROGBITS {
		return nil, fmt.Errorf("%w: it has no section .modinfo", ErrModule)
	}
	if s.Size > maxModInfo {
		return nil, fmt.Errorf("%w: .modinfo of %d bytes, expected at most %d", ErrModule, s.Size, maxModInfo)
	}
	data, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("%w: read .modinfo: %w", ErrModule, err)
	}
	m := parseModInfo(data)
	m.Machine = f.Machine
	if m.Name == "" {
		// As the name is there since Linux 4.16, what is built here has it.
		return nil, fmt.Errorf("%w: .modinfo has no name", ErrModule)
	}
	if m.Signature, err = readSignature(r, size); err != nil {
		return nil, err
	}
	return m, nil
}

// parseModInfo reads name=value strings that zero bytes end.
func parseModInfo(data []byte) *ModInfo {
	m := &ModInfo{}
	for entry := range bytes.SplitSeq(data, []byte{0}) {
		name, value, _ := strings.Cut(string(entry), "=")
		m.set(name, value)
	}
	return m
}

func (m *ModInfo) set(name, value string) {
	switch name {
	case "name":
		m.Name = value
	case "version":
		m.Version = value
	case "srcversion":
		m.SrcVersion = value
	case "vermagic":
		m.Vermagic = strings.TrimSpace(value)
	case "netio_abi":
		m.ABI = value
	case "parmtype":
		parameter, _, _ := strings.Cut(value, ":")
		m.Parameters = append(m.Parameters, parameter)
	case "depends":
		m.Depends = strings.FieldsFunc(value, func(c rune) bool { return c == ',' })
	}
}

// release is that of the kernel that it was built for.
func (m *ModInfo) release() string {
	release, _, _ := strings.Cut(m.Vermagic, " ")
	return release
}
