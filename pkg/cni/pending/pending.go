// SPDX-License-Identifier: Apache-2.0

// Package pending keeps the deletions that the CNI plugin has promised to a
// runtime while the agent could not be asked. The agent makes them good.
//
//	plugin, DEL, agent away ──Write──> stateDir/cni/pending-del/<hash>.json
//	plugin, ADD of the same  ──Settle─┐        │ List
//	                                  v        v
//	agent, at start and when the directory changes: lock attachment, Settle
//
// A record appears and goes away atomically and is synced with its directory
// before Write and Remove return, so a promise outlives a power cut.
//
// # DEL and undo
//
// A DEL is about whatever is attached under the ID; there is at most one record
// of it. What takes an ADD back ([Record].Undo) is about what that ADD can have
// attached: it may have named the ID of an attachment that lives, by mistake, and
// the agent died before it could refuse. So it has a record of its own for each
// network namespace, beside that of a DEL, and neither replaces the other:
//
//	<hash of attachment>.json                    DEL
//	<hash of attachment>-<hash of netns>.undo    undo of an ADD
//
// # Rules of the agent
//
// A runtime may add an attachment again as soon as its deletion was promised
// (restarted containers keep their ID). So that an old record never deletes a
// new attachment:
//
//   - the agent makes all good that [List] returns before it serves, and later
//     each by [Settle] whenever the directory changes (a call that timed out
//     leaves a record too);
//   - it calls Settle with the attachment locked against its own Add and Del:
//     Settle looks at the record again under that lock, and does nothing if an
//     Add has settled it meanwhile;
//   - the plugin settles a record, by a Del, before each Add.
//
// Most records can be of attachments that never were: while the agent is away, a
// runtime deletes what it could not add, and tries again under another ID.
package pending

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"netio.dev/netio/pkg/agent/netnsid"
)

// DefaultStateDir is the state directory of agent and plugin.
const DefaultStateDir = "/var/lib/netio"

// Dir is where the records lie below the state directory that the agent and
// the plugin are configured with.
func Dir(stateDir string) string {
	return filepath.Join(stateDir, "cni", "pending-del")
}

const (
	version = 1
	suffix  = ".json"
	// undoSuffix is unknown to releases that would take an undo for a DEL.
	undoSuffix = ".undo"
	tempMark   = ".tmp-"
	maxBytes   = 64 << 10
	// strayAge is when a temporary file is no writer's any more.
	strayAge = time.Hour
)

// ErrRecord is wrapped by errors about a record that cannot be read.
var ErrRecord = errors.New("malformed record of a pending deletion")

// Record is an attachment that is to be deleted. Network, ContainerID and
// IfName identify it.
type Record struct {
	Network     string `json:"network"`
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
	NetNS       string `json:"netns,omitempty"` // path, as of CNI_NETNS
	// Undo says that an ADD is taken back: see Means.
	Undo bool `json:"undo,omitempty"`
	// NetNSID is what was at NetNS when that ADD began, zero if it could not
	// be told.
	NetNSID netnsid.ID `json:"netnsID,omitzero"`
	Since   time.Time  `json:"since"` // wall clock
}

// Means tells whether the record is about the attachment that is in the network
// namespace with this path and identity. A DEL is about any. An ADD can only have
// made one where it was told to: path and namespace have to be the same, for
// another namespace can be at the path since, and inode numbers come again.
func (r Record) Means(netns string, id netnsid.ID) bool {
	return !r.Undo || r.NetNS == netns && (r.NetNSID == id || r.NetNSID == netnsid.ID{})
}

type file struct {
	Version int `json:"version"`
	Record
}

// name is derived, not spelled out: network and container ID have no limit that
// would fit a file name.
func (r Record) name() string { return hash(r.Network + "/" + r.ContainerID + "/" + r.IfName) }

func (r Record) file() string {
	if !r.Undo {
		return r.name() + suffix
	}
	return r.undoPrefix() + hash(fmt.Sprintf("%d/%d/%s/%s", r.NetNSID.Dev, r.NetNSID.Inode, r.NetNSID.Boot, r.NetNS)) + undoSuffix
}

// undoPrefix begins the names of all undo records of the attachment.
func (r Record) undoPrefix() string { return r.name() + "-" }

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

func (r Record) String() string {
	return r.Network + "/" + r.ContainerID + "/" + r.IfName
}

// Write makes a record durable, and the directory if need be (mode 0700). An
// older record that promises the same is replaced.
func Write(dir string, r Record) error {
	if r.Network == "" || r.ContainerID == "" || r.IfName == "" {
		return fmt.Errorf("write pending deletion: network %q, container ID %q and interface %q must not be empty", r.Network, r.ContainerID, r.IfName)
	}
	if err := write(dir, r); err != nil {
		return fmt.Errorf("write pending deletion of %s: %w", r, err)
	}
	return nil
}

func write(dir string, r Record) error {
	if err := makeDir(dir); err != nil {
		return err
	}
	data, err := json.MarshalIndent(file{version, r}, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, r.name()+tempMark+"*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, r.file()))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

// makeDir is MkdirAll whose new directories are on disk.
func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent == dir {
		return os.Mkdir(dir, 0o700)
	}
	if err := makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// List returns all records, oldest first. A directory that is not there has
// none. Records that cannot be read are left where they are and named in the
// error, which joins one ErrRecord each; the others are returned all the same.
func List(dir string) ([]Record, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list pending deletions: %w", err)
	}
	var records []Record
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.Contains(e.Name(), tempMark) {
			removeStray(path, e)
			continue
		}
		if !strings.HasSuffix(e.Name(), suffix) && !strings.HasSuffix(e.Name(), undoSuffix) {
			continue
		}
		r, err := read(path)
		switch {
		case errors.Is(err, fs.ErrNotExist): // settled since
		case err != nil:
			errs = append(errs, err)
		default:
			records = append(records, r)
		}
	}
	slices.SortStableFunc(records, func(a, b Record) int { return a.Since.Compare(b.Since) })
	return records, errors.Join(errs...)
}

// removeStray clears what a writer left that was killed.
func removeStray(path string, e os.DirEntry) {
	if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > strayAge {
		os.Remove(path)
	}
}

func read(path string) (Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return Record{}, fmt.Errorf("read pending deletion: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return Record{}, fmt.Errorf("read pending deletion %s: %w", path, err)
	}
	r, err := parse(data)
	if err == nil && r.file() != filepath.Base(path) {
		err = fmt.Errorf("it is the record of %s, whose file is %s", r, r.file())
	}
	if err != nil {
		return Record{}, fmt.Errorf("%w: %s: %w; delete the file if the attachment is gone", ErrRecord, path, err)
	}
	return r, nil
}

func parse(data []byte) (Record, error) {
	if len(data) > maxBytes {
		return Record{}, fmt.Errorf("longer than %d bytes", maxBytes)
	}
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return Record{}, err
	}
	if f.Version != version {
		return Record{}, fmt.Errorf("version %d, expected %d", f.Version, version)
	}
	if f.Network == "" || f.ContainerID == "" || f.IfName == "" {
		return Record{}, fmt.Errorf("network %q, containerID %q and ifname %q must not be empty", f.Network, f.ContainerID, f.IfName)
	}
	return f.Record, nil
}

// Lookup returns the record of an attachment's DEL, if there is one. Only
// Network, ContainerID and IfName of attachment matter.
func Lookup(dir string, attachment Record) (r Record, ok bool, err error) {
	r, err = read(filepath.Join(dir, attachment.name()+suffix))
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, false, nil
	}
	return r, err == nil, err
}

// Remove cancels the record that promises what r does and returns when that is
// on disk. No record is no error.
func Remove(dir string, r Record) error {
	err := os.Remove(filepath.Join(dir, r.file()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("remove pending deletion of %s: %w", r, err)
	}
	return nil
}

// Settle makes the pending deletions of an attachment good: it calls del for
// each record, and removes the record if del succeeds. The record of a DEL that
// cannot be read still says whose it is, by its name: del is called with
// attachment itself, as a DEL. The caller keeps other operations on the attachment
// away meanwhile.
func Settle(dir string, attachment Record, del func(Record) error) error {
	records, err := recordsOf(dir, attachment)
	if err != nil {
		return err
	}
	for _, r := range records {
		if err := del(r); err != nil {
			return fmt.Errorf("make the pending deletion of %s good: %w", r, err)
		}
		if err := Remove(dir, r); err != nil {
			return err
		}
	}
	return nil
}

// recordsOf an attachment: of its DEL and of ADDs. Of an undo that cannot be read
// nobody knows what it is about; List names it.
func recordsOf(dir string, attachment Record) ([]Record, error) {
	attachment.Undo, attachment.NetNSID = false, netnsid.ID{}
	var records []Record
	r, ok, err := Lookup(dir, attachment)
	switch {
	case errors.Is(err, ErrRecord):
		records = append(records, attachment)
	case err != nil:
		return nil, err
	case ok:
		records = append(records, r)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list pending deletions: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), attachment.undoPrefix()) || !strings.HasSuffix(e.Name(), undoSuffix) {
			continue
		}
		r, err := read(filepath.Join(dir, e.Name()))
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrRecord):
		case err != nil:
			return nil, err
		default:
			records = append(records, r)
		}
	}
	return records, nil
}
