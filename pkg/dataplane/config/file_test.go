// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func TestSaveAndLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot")
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	other := &dataplanev1.Snapshot{Revision: 9}
	for _, s := range []*dataplanev1.Snapshot{town(), other, {}, town()} {
		if err := Save(path, s); err != nil {
			t.Fatal(err)
		}
		got, err := Load(path)
		if err != nil || !proto.Equal(got, s) {
			t.Fatalf("%v: got %v, want %v", err, got, s)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v: mode %v", err, info.Mode())
	}
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) != 1 {
		t.Errorf("%v: %v", err, files)
	}
}

func TestSaveReplacesWhatACrashLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot")
	if err := os.WriteFile(path+".tmp", []byte(strings.Repeat("half", 100_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Save(path, town()); err != nil {
		t.Fatal(err)
	}
	if s, err := Load(path); err != nil || !proto.Equal(s, town()) {
		t.Error(err)
	}
}

func TestSaveFails(t *testing.T) {
	dir := t.TempDir()
	if err := Save(filepath.Join(dir, "no", "such", "folder"), town()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	// The target cannot be replaced: the old one stays, and no litter.
	path := filepath.Join(dir, "snapshot")
	if err := os.MkdirAll(filepath.Join(path, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Save(path, town()); err == nil {
		t.Error("replaced a folder")
	}
	if _, err := os.Stat(path + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("litter: %v", err)
	}
	if err := Save(filepath.Join(dir, "other"), &dataplanev1.Snapshot{Ports: []*dataplanev1.Port{{Name: "\xff"}}}); err == nil {
		t.Error("wrote what cannot be encoded")
	}
}

// TestLoadFindsEveryDamage: each truncation and each changed bit.
func TestLoadFindsEveryDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot")
	if err := Save(path, town()); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range raw {
		if _, err := decode(raw[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%d of %d bytes: %v", n, len(raw), err)
		}
	}
	if _, err := decode(append(raw[:len(raw):len(raw)], 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a byte too many: %v", err)
	}
	for i := range raw {
		for bit := range 8 {
			raw[i] ^= 1 << bit
			_, err := decode(raw)
			if version := i >= len(fileMagic) && i < sumAt; !errors.Is(err, ErrCorrupt) && !version || version && !errors.Is(err, ErrFileVersion) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
			raw[i] ^= 1 << bit
		}
	}
	raw[sumAt-1] = 7
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "version 7") || !strings.Contains(err.Error(), "version 1") {
		t.Errorf("other version: %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	path := filepath.Join(f.TempDir(), "snapshot")
	for _, s := range []*dataplanev1.Snapshot{town(), {}} {
		if err := Save(path, s); err != nil {
			f.Fatal(err)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(fileMagic))
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = bytes.Clone(raw)
		load := func() {
			s, err := decode(raw)
			if err != nil {
				if s != nil || !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFileVersion) {
					t.Fatalf("%v, %v", s, err)
				}
				return
			}
			if Validate(s) == nil {
				Build(s, nil, nil, 1)
			}
		}
		load()
		if len(raw) >= fileHeader { // behind the header
			copy(raw, fileMagic)
			binary.BigEndian.PutUint32(raw[len(fileMagic):], fileVersion)
			binary.BigEndian.PutUint64(raw[sumAt+4:], uint64(len(raw)-fileHeader))
			binary.BigEndian.PutUint32(raw[sumAt:], crc32.Checksum(raw[sumAt+4:], castagnoli))
			load()
		}
	})
}
