// SPDX-License-Identifier: Apache-2.0

// Package attachment remembers which pods are wired, across restarts of the
// agent and of the machine.
//
// There is one file for each attachment, written whole or not at all. Its
// appearance is the moment that an ADD is done, its removal the moment that a
// DEL is: whatever else was made before or is left after (lease, port) has no
// attachment, and the next reconciliation takes it away.
package attachment

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"netio.dev/netio/pkg/agent/atomicfile"
	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/pkg/agent/netnsid"
)

// ID names an attachment, as in the CNI specification, section 2.
type ID struct {
	Network     string `json:"network"`
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

func (id ID) String() string { return id.Network + "/" + id.ContainerID + "/" + id.IfName }

// ErrInvalid is returned for an ID that the CNI specification does not allow.
var ErrInvalid = errors.New("invalid attachment")

// Check reports what is wrong with the ID.
func (id ID) Check() error {
	switch {
	case !config.ValidCNIName(id.Network):
		return fmt.Errorf("%w: network name %q; expected letters, digits, and _ . - after the first", ErrInvalid, id.Network)
	case !config.ValidCNIName(id.ContainerID):
		return fmt.Errorf("%w: container ID %q; expected letters, digits, and _ . - after the first", ErrInvalid, id.ContainerID)
	case !config.ValidIfName(id.IfName):
		return fmt.Errorf("%w: interface name %q; expected 1 to 15 characters without / : %% and blanks", ErrInvalid, id.IfName)
	case len(id.file()) > 200:
		return fmt.Errorf("%w: network name and container ID have %d bytes, at most 180 are allowed", ErrInvalid, len(id.Network)+len(id.ContainerID))
	}
	return nil
}

const suffix = ".json"

// file is the name of the attachment's file: @ is in no name before the last.
func (id ID) file() string { return id.Network + "@" + id.ContainerID + "@" + id.IfName + suffix }

// Attachment is a pod's interface that is wired.
type Attachment struct {
	ID
	// Port is the forwarder's name for it.
	Port string `json:"port"`
	// NetNS is the path of the network namespace; what is at the path counts
	// only if it is the namespace with this identity.
	NetNS   string     `json:"netNS"`
	NetNSID netnsid.ID `json:"netNSID"`
	// Namespace, Name and UID of the pod; Name is the container ID and
	// Namespace "default" where the runtime does not tell.
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	UID       string            `json:"uid,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	// ServiceAccount that the pod runs as, "" if that is not known.
	ServiceAccount string `json:"serviceAccount,omitempty"`
	// Pool that the addresses are of, "" for the node's own prefixes.
	Pool      string       `json:"pool,omitempty"`
	Addresses []netip.Addr `json:"addresses"`
	MTU       int          `json:"mtu"`
	IfIndex   int          `json:"ifIndex"`
	// Routes in the pod, in the order they were made.
	Routes []Route   `json:"routes"`
	Since  time.Time `json:"since"`
}

// Route of a pod through its knet.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	// Gateway is the zero Addr for what is on link.
	Gateway netip.Addr `json:"gateway,omitzero"`
}

// Store is the folder with the files. Calls for different attachments may be
// made concurrently, those for one attachment are the caller's to serialise.
type Store struct{ dir string }

// Open opens the folder, or makes it, and clears what a kill in the middle of
// writing left.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder of attachments: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read folder of attachments: %w", err)
	}
	for _, e := range entries {
		if atomicfile.IsStray(e.Name()) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("clear folder of attachments: %w", err)
			}
		}
	}
	return &Store{dir}, nil
}

// Put returns when the attachment is on disk.
func (s *Store) Put(a *Attachment) error {
	if err := a.ID.Check(); err != nil {
		return err
	}
	data, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return fmt.Errorf("record attachment %s: %w", a.ID, err)
	}
	if err := atomicfile.Write(filepath.Join(s.dir, a.file()), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("record attachment: %w", err)
	}
	return nil
}

// Delete returns when the attachment is gone from the disk. One that is not
// there is no error.
func (s *Store) Delete(id ID) error {
	if err := id.Check(); err != nil {
		return err
	}
	if err := atomicfile.Remove(filepath.Join(s.dir, id.file())); err != nil {
		return fmt.Errorf("forget attachment: %w", err)
	}
	return nil
}

// Load reads all attachments. Files that cannot be read are named in the
// error, one line each; the others are returned all the same, with the IDs of
// those unreadable, since their names tell them.
func (s *Store) Load() (all []*Attachment, unreadable []ID, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read folder of attachments: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) || atomicfile.IsStray(e.Name()) {
			continue
		}
		path := filepath.Join(s.dir, e.Name())
		a, err := read(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("attachment %s: %w; restart its pod and remove the file", path, err))
			if id, ok := parseFile(e.Name()); ok {
				unreadable = append(unreadable, id)
			}
			continue
		}
		all = append(all, a)
	}
	return all, unreadable, errors.Join(errs...)
}

func parseFile(name string) (ID, bool) {
	part := strings.SplitN(strings.TrimSuffix(name, suffix), "@", 3)
	if len(part) != 3 {
		return ID{}, false
	}
	id := ID{part[0], part[1], part[2]}
	return id, id.Check() == nil
}

func read(path string) (*Attachment, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parse(filepath.Base(path), data)
}

func parse(name string, data []byte) (*Attachment, error) {
	a := &Attachment{}
	if err := json.Unmarshal(data, a); err != nil {
		return nil, err
	}
	switch err := a.ID.Check(); {
	case err != nil:
		return nil, err
	case a.file() != name:
		return nil, fmt.Errorf("the content is of %s", a.ID)
	case a.Port == "" || a.NetNS == "" || len(a.Addresses) == 0:
		return nil, errors.New("port, namespace or addresses are missing")
	case slices.ContainsFunc(a.Addresses, func(a netip.Addr) bool { return !a.IsValid() }):
		return nil, errors.New("an address is empty")
	}
	return a, nil
}
