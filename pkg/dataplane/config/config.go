// SPDX-License-Identifier: Apache-2.0

// Package config is the model between what the forwarder is told (a Snapshot
// and its Deltas) and what its workers use (Tables).
//
//	Delta ──Merge──> Snapshot ──Validate──> ok ──Build──> Tables ──> workers
//	                     └── Save, Load: the file for the next start
package config

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// ErrRevision is returned by Merge for a delta that is not of the base.
var ErrRevision = errors.New("the delta is of another revision: send a snapshot")

// Validate checks a snapshot whole.
func Validate(s *dataplanev1.Snapshot) error {
	names := map[string]bool{}
	for i, p := range s.GetPorts() {
		if p.GetName() == "" || names[p.GetName()] {
			return fmt.Errorf("ports[%d].name %q: want a name that no other port has", i, p.GetName())
		}
		names[p.GetName()] = true
	}
	sets, policies := map[string]bool{}, map[string]bool{}
	for _, a := range s.GetAddressSets() {
		sets[a.GetName()] = true
	}
	for i, p := range s.GetPolicies() {
		policies[p.GetName()] = true
		for j, r := range append(append([]*dataplanev1.Rule{}, p.GetIngress()...), p.GetEgress()...) {
			for _, peer := range r.GetPeers() {
				if !sets[peer] {
					return fmt.Errorf("policies[%d] rule %d: no address set %q", i, j, peer)
				}
			}
		}
	}
	for i, p := range s.GetPorts() {
		for _, name := range p.GetPolicies() {
			if !policies[name] {
				return fmt.Errorf("ports[%d].policies: no policy %q", i, name)
			}
		}
	}
	return nil
}

// Status converts an error of Validate.
func Status(err error) error { return status.Error(codes.InvalidArgument, err.Error()) }

// Merge applies a delta to a copy of the base.
func Merge(base *dataplanev1.Snapshot, d *dataplanev1.Delta) (*dataplanev1.Snapshot, error) {
	if base.GetRevision() != d.GetBaseRevision() {
		return nil, fmt.Errorf("%w (in force is %d, the delta's base is %d)", ErrRevision, base.GetRevision(), d.GetBaseRevision())
	}
	s := &dataplanev1.Snapshot{
		Revision: d.GetRevision(), Settings: base.GetSettings(),
		Ports:           merge(base.GetPorts(), d.GetPorts(), d.GetDeletePorts(), (*dataplanev1.Port).GetName),
		Routes:          merge(base.GetRoutes(), d.GetRoutes(), d.GetDeleteRoutes(), (*dataplanev1.Route).GetPrefix),
		AddressSets:     merge(base.GetAddressSets(), d.GetAddressSets(), d.GetDeleteAddressSets(), (*dataplanev1.AddressSet).GetName),
		Policies:        merge(base.GetPolicies(), d.GetPolicies(), d.GetDeletePolicies(), (*dataplanev1.Policy).GetName),
		SourceNats:      merge(base.GetSourceNats(), d.GetSourceNats(), d.GetDeleteSourceNats(), (*dataplanev1.SourceNat).GetName),
		DestinationNats: merge(base.GetDestinationNats(), d.GetDestinationNats(), d.GetDeleteDestinationNats(), (*dataplanev1.DestinationNat).GetName),
	}
	if d.Settings != nil {
		s.Settings = d.Settings
	}
	return s, nil
}

func merge[T any](base, upsert []T, drop []string, name func(T) string) []T {
	gone := make(map[string]bool, len(drop))
	for _, n := range drop {
		gone[n] = true
	}
	fresh := make(map[string]int, len(upsert))
	for i, v := range upsert {
		fresh[name(v)] = i
	}
	out := make([]T, 0, len(base)+len(upsert))
	used := make([]bool, len(upsert))
	for _, v := range base {
		n := name(v)
		if i, ok := fresh[n]; ok {
			if !used[i] {
				out = append(out, upsert[i])
			}
			used[i] = true
		} else if !gone[n] {
			out = append(out, v)
		}
	}
	for i, v := range upsert {
		if !used[i] {
			out = append(out, v)
		}
	}
	return out
}

const fileMagic = "NETIO-SNAPSHOT-1\n"

// Save writes a snapshot to a file atomically.
func Save(path string, s *dataplanev1.Snapshot) error {
	raw, err := proto.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("create snapshot file: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintf(f, "%s%08x\n%s", fileMagic, crc32.ChecksumIEEE(raw), raw)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write snapshot file: %w", err)
	}
	return os.Rename(f.Name(), path)
}

// ErrCorrupt is returned by Load for a file that is damaged.
var ErrCorrupt = errors.New("snapshot file is damaged or of another version")

// Load reads what Save wrote.
func Load(path string) (*dataplanev1.Snapshot, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var sum uint32
	head := len(fileMagic) + 9
	if len(raw) < head || string(raw[:len(fileMagic)]) != fileMagic {
		return nil, fmt.Errorf("%s: %w", path, ErrCorrupt)
	}
	if _, err := fmt.Sscanf(string(raw[len(fileMagic):head]), "%08x\n", &sum); err != nil || sum != crc32.ChecksumIEEE(raw[head:]) {
		return nil, fmt.Errorf("%s: %w", path, ErrCorrupt)
	}
	s := new(dataplanev1.Snapshot)
	if err := proto.Unmarshal(raw[head:], s); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, ErrCorrupt, err)
	}
	return s, nil
}
