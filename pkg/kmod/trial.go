// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"netio.dev/netio/pkg/agent/atomicfile"
)

// trial notes that a module is being loaded.
type trial struct {
	File       string    `json:"file"`
	SrcVersion string    `json:"srcversion,omitempty"`
	Boot       string    `json:"boot"` // of the kernel (Documentation/admin-guide/sysctl/kernel.rst, random)
	Began      time.Time `json:"began"`
}

// try writes the note on disk before a module is loaded, and end takes it away. One that is
// of an earlier boot and of the same module is the error, a Problem: the machine went
// down meanwhile. Where it cannot be written the module is loaded without it.
func (s *System) try(f *File, note string) (end func(), err error) {
	if note == "" {
		return func() {}, nil
	}
	now := trial{File: s.shown(f.Path), SrcVersion: f.SrcVersion, Boot: s.line("/proc/sys/kernel/random/boot_id"), Began: time.Now().UTC().Truncate(time.Second)}
	var was trial
	if b, err := os.ReadFile(note); err == nil && json.Unmarshal(b, &was) == nil && was.Boot != now.Boot && was.SrcVersion == now.SrcVersion {
		return nil, problem(LoadFailed, "remove "+s.shown(note)+" from the node to try it again", "the machine went down at %s, while %s was loaded into its kernel",
			was.Began.Format(time.RFC3339), was.File)
	}
	text, err := json.Marshal(now)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(note), 0o755); err != nil {
		return func() {}, nil
	}
	if err := atomicfile.Write(note, text, 0o644); err != nil {
		return func() {}, nil
	}
	return func() { _ = atomicfile.Remove(note) }, nil
}
