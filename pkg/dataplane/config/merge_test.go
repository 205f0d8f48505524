// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func TestMerge(t *testing.T) {
	base := town()
	before := proto.Clone(base)
	d := &dataplanev1.Delta{
		BaseRevision: 1, Revision: 5,
		Ports:                 []*dataplanev1.Port{{Name: "new"}, {Name: "web", Ifname: "eth9"}},
		DeletePorts:           []string{"db", "never there"},
		DeleteRoutes:          []string{"::0/0"},
		Routes:                []*dataplanev1.Route{{Prefix: "0.0.0.0/0", Port: "web"}},
		SourceNats:            []*dataplanev1.SourceNat{{Name: "masquerade"}},
		DeleteSourceNats:      []string{"masquerade"}, // and added again: at the end
		DeleteAddressSets:     []string{"office"},
		DeletePolicies:        []string{"p", "q"},
		DeleteDestinationNats: []string{"dns"},
	}
	s, err := Merge(base, d)
	if err != nil {
		t.Fatal(err)
	}
	names := func(s *dataplanev1.Snapshot) string {
		var out []string
		for _, p := range s.Ports {
			out = append(out, p.Name+":"+p.Ifname)
		}
		for _, r := range s.Routes {
			out = append(out, r.Prefix+">"+r.Port)
		}
		for _, a := range s.AddressSets {
			out = append(out, a.Name)
		}
		for _, p := range s.Policies {
			out = append(out, p.Name)
		}
		for _, n := range s.SourceNats {
			out = append(out, n.Name)
		}
		for _, n := range s.DestinationNats {
			out = append(out, n.Name)
		}
		return strings.Join(out, " ")
	}
	if got, want := names(s), "web:eth9 host:netio0 new: 0.0.0.0/0>web 10.0.0.0/16> pods masquerade6 masquerade dns-tcp web6"; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if s.Revision != 5 || s.Settings != base.Settings {
		t.Errorf("revision %d, settings %v", s.Revision, s.Settings)
	}
	if !proto.Equal(base, before) {
		t.Error("the base has changed")
	}
	d = &dataplanev1.Delta{BaseRevision: 5, Revision: 6, Settings: &dataplanev1.Settings{Ipv4: "10.1.1.1"}}
	next, err := Merge(s, d)
	if err != nil {
		t.Fatal(err)
	}
	if next.Settings.Ipv4 != "10.1.1.1" || names(next) != names(s) || !sameSlice(next.Ports, s.Ports) {
		t.Error("settings alone")
	}
}

func TestMergeRefuses(t *testing.T) {
	port := func(name string) *dataplanev1.Port { return &dataplanev1.Port{Name: name} }
	for name, tt := range map[string]struct {
		d    *dataplanev1.Delta
		says string
	}{
		"another base":      {&dataplanev1.Delta{BaseRevision: 2, Revision: 3}, "in force is 1, the delta's base is 2"},
		"the same revision": {&dataplanev1.Delta{BaseRevision: 1, Revision: 1}, "delta.revision: 1 does not come after base_revision 1"},
		"an earlier one":    {&dataplanev1.Delta{BaseRevision: 1}, "delta.revision"},
		"a name twice":      {&dataplanev1.Delta{BaseRevision: 1, Revision: 2, Ports: []*dataplanev1.Port{port("a"), port("web"), port("a")}}, `delta.ports[2]: "a" is also delta.ports[0]`},
		"a prefix twice":    {&dataplanev1.Delta{BaseRevision: 1, Revision: 2, Routes: []*dataplanev1.Route{{Prefix: "fd00::/16"}, {Prefix: "FD00:0::/16"}}}, `delta.routes[1]`},
		"unknown fields": {func() *dataplanev1.Delta {
			d := &dataplanev1.Delta{BaseRevision: 1, Revision: 2}
			d.ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 1})
			return d
		}(), "delta: has fields"},
	} {
		s, err := Merge(town(), tt.d)
		if s != nil || err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
		if errors.Is(err, ErrRevision) != (name == "another base") {
			t.Errorf("%s: ErrRevision is not for this", name)
		}
	}
	if _, err := Merge(nil, &dataplanev1.Delta{Revision: 1}); err != nil {
		t.Errorf("onto nothing: %v", err)
	}
}

// TestMergeAgainstGolden holds merge against deleting and adding one by one.
func TestMergeAgainstGolden(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		base := &dataplanev1.Snapshot{}
		for _, i := range r.Perm(10)[:r.IntN(10)] {
			base.Ports = append(base.Ports, &dataplanev1.Port{Name: fmt.Sprint(i)})
		}
		d := &dataplanev1.Delta{Revision: 1}
		for _, i := range r.Perm(12)[:r.IntN(6)] {
			d.Ports = append(d.Ports, &dataplanev1.Port{Name: fmt.Sprint(i)})
		}
		for range r.IntN(5) {
			d.DeletePorts = append(d.DeletePorts, fmt.Sprint(r.IntN(12)))
		}
		want := slices.Clone(base.Ports)
		for _, n := range d.DeletePorts {
			want = slices.DeleteFunc(want, func(p *dataplanev1.Port) bool { return p.Name == n })
		}
		for _, p := range d.Ports {
			if i := slices.IndexFunc(want, func(q *dataplanev1.Port) bool { return q.Name == p.Name }); i >= 0 {
				want[i] = p
			} else {
				want = append(want, p)
			}
		}
		got, err := Merge(base, d)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Ports, want) {
			t.Fatalf("%v with %v\n got %v\nwant %v", base, d, got.Ports, want)
		}
	}
}
