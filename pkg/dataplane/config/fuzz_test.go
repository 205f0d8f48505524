// SPDX-License-Identifier: Apache-2.0

package config

import (
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// FuzzApply takes a snapshot and a delta from the wire to the tables: nothing
// may panic, what is valid must build, and building from the tables before
// must give what building from nothing gives.
func FuzzApply(f *testing.F) {
	marshal := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	r := random{rand.New(rand.NewPCG(3, 3))}
	f.Add(marshal(town()), marshal(&dataplanev1.Delta{BaseRevision: 1, Revision: 2, DeletePorts: []string{"db"}}), false)
	for range 20 {
		s := r.start()
		for range 10 {
			d := r.delta()
			d.BaseRevision, d.Revision = s.Revision, s.Revision+1
			if next, err := Merge(s, d); err == nil && Validate(next) == nil {
				s = next
			}
		}
		d := r.delta()
		d.BaseRevision, d.Revision = s.Revision, s.Revision+1
		f.Add(marshal(s), marshal(d), r.one(2))
	}
	f.Fuzz(func(t *testing.T, snapshot, delta []byte, keepUnknown bool) {
		from := proto.UnmarshalOptions{DiscardUnknown: !keepUnknown}
		s, d := new(dataplanev1.Snapshot), new(dataplanev1.Delta)
		if from.Unmarshal(snapshot, s) != nil || from.Unmarshal(delta, d) != nil {
			return
		}
		err := Validate(s)
		if Status(err) != nil && err == nil {
			t.Fatal("a status without an error")
		}
		if err != nil {
			_ = err.Error()
			return
		}
		ids := map[string]uint32{}
		for i, p := range s.Ports {
			ids[p.Name] = uint32(i) // the first one is left out
		}
		tab := Build(s, ids, nil, 1)
		golden(t, random{rand.New(rand.NewPCG(1, 1))}, tab, s, ids)
		next, err := Merge(s, d)
		if err != nil {
			return
		}
		got, want := ValidateUpdate(s, next), Validate(next)
		if !alike(got, want) {
			t.Fatalf("update: %v\nwhole: %v", got, want)
		}
		if want != nil {
			return
		}
		for _, p := range next.Ports {
			if ids[p.Name] == 0 {
				ids[p.Name] = uint32(len(ids) + 1)
			}
		}
		same(t, Build(next, ids, tab, 2), Build(next, ids, nil, 2))
	})
}
