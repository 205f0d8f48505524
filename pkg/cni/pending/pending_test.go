// SPDX-License-Identifier: Apache-2.0

package pending

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"netio.dev/netio/pkg/agent/netnsid"
)

func record(container string, at int) Record {
	return Record{
		Network: "net", ContainerID: container, IfName: "eth0",
		NetNS: "/run/netns/" + container, Since: time.Unix(int64(at), 0).UTC(),
	}
}

func put(t *testing.T, dir string, rs ...Record) {
	t.Helper()
	for _, r := range rs {
		if err := Write(dir, r); err != nil {
			t.Fatal(err)
		}
	}
}

func list(t *testing.T, dir string) []Record {
	t.Helper()
	rs, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func TestRecordsComeAndGo(t *testing.T) {
	dir := Dir(filepath.Join(t.TempDir(), "state"))
	if rs := list(t, dir); len(rs) != 0 {
		t.Errorf("no directory, but %v", rs)
	}
	if _, ok, err := Lookup(dir, record("a", 0)); ok || err != nil {
		t.Errorf("Lookup without directory = %v, %v", ok, err)
	}
	if err := Remove(dir, record("a", 0)); err != nil {
		t.Error(err)
	}
	a, b := record("a", 2), record("b", 1)
	other := Record{Network: "net", ContainerID: "a", IfName: "eth1", Since: time.Unix(3, 0).UTC()}
	put(t, dir, a, b, other, a)
	if got, want := list(t, dir), []Record{b, a, other}; !reflect.DeepEqual(got, want) {
		t.Errorf("list %v, want %v", got, want)
	}
	got, ok, err := Lookup(dir, Record{Network: "net", ContainerID: "a", IfName: "eth0"})
	if err != nil || !ok || got != a {
		t.Errorf("Lookup = %v, %v, %v", got, ok, err)
	}
	if err := errors.Join(Remove(dir, a), Remove(dir, a)); err != nil {
		t.Error(err)
	}
	if got, want := list(t, dir), []Record{b, other}; !reflect.DeepEqual(got, want) {
		t.Errorf("list %v, want %v", got, want)
	}
	for d, n := dir, 0; n < 3; d, n = filepath.Dir(d), n+1 {
		if info, err := os.Stat(d); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", d, info.Mode(), err)
		}
	}
}

func TestLongNames(t *testing.T) {
	dir := t.TempDir()
	r := Record{Network: strings.Repeat("n", 300), ContainerID: strings.Repeat("c", 300), IfName: "eth0"}
	put(t, dir, r)
	if rs := list(t, dir); len(rs) != 1 || rs[0] != r {
		t.Errorf("list %v", rs)
	}
}

func TestWriteErrors(t *testing.T) {
	if err := Write(t.TempDir(), Record{Network: "n", IfName: "eth0"}); err == nil || !strings.Contains(err.Error(), "container ID") {
		t.Errorf("no container ID: %v", err)
	}
	notDir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(notDir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := Write(filepath.Join(notDir, "dir"), record("a", 0))
	if err == nil || !strings.Contains(err.Error(), "net/a/eth0") {
		t.Errorf("below a file: %v", err)
	}
}

func TestBadRecordsAreNamedAndTheOthersListed(t *testing.T) {
	dir := t.TempDir()
	good := record("good", 0)
	put(t, dir, good, record("bad", 0))
	for name, data := range map[string]string{
		record("bad", 0).name() + suffix:   "{",
		record("v2", 0).name() + suffix:    `{"version": 2, "network": "net", "containerID": "v2", "ifname": "eth0"}`,
		record("wrong", 0).name() + suffix: `{"version": 1, "network": "net", "containerID": "x", "ifname": "eth0"}`,
		record("empty", 0).name() + suffix: `{"version": 1}`,
		record("long", 0).name() + suffix:  `{"version": 1}` + strings.Repeat(" ", maxBytes),
		"README":                           "not a record",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rs, err := List(dir)
	if len(rs) != 1 || rs[0] != good {
		t.Errorf("list %v", rs)
	}
	if !errors.Is(err, ErrRecord) {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{record("bad", 0).name(), "version 2, expected 1", "it is the record of net/x/eth0", "must not be empty", "longer than"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q: %v", want, err)
		}
	}
	// Settling goes by the name when the content is lost.
	var deleted Record
	err = Settle(dir, record("bad", 7), func(r Record) error { deleted = r; return nil })
	if err != nil || deleted != record("bad", 7) {
		t.Errorf("Settle = %v, deleted %v", err, deleted)
	}
	if _, ok, err := Lookup(dir, record("bad", 0)); ok || err != nil {
		t.Errorf("Lookup after Settle = %v, %v", ok, err)
	}
}

func TestSettle(t *testing.T) {
	dir := t.TempDir()
	a := record("a", 1)
	calls := 0
	broken := errors.New("broken")
	settle := func(err error) error {
		return Settle(dir, Record{Network: "net", ContainerID: "a", IfName: "eth0"}, func(r Record) error {
			calls++
			if r != a {
				t.Errorf("del of %v", r)
			}
			return err
		})
	}
	if err := settle(nil); err != nil || calls != 0 {
		t.Errorf("nothing to settle: %v, %d calls", err, calls)
	}
	put(t, dir, a)
	if err := settle(broken); !errors.Is(err, broken) || !strings.Contains(err.Error(), "net/a/eth0") {
		t.Errorf("error %v", err)
	}
	if len(list(t, dir)) != 1 {
		t.Error("a failed deletion was forgotten")
	}
	if err := settle(nil); err != nil || len(list(t, dir)) != 0 || calls != 2 {
		t.Errorf("settled: %v, %v, %d calls", err, list(t, dir), calls)
	}
}

// undo is the record of an ADD that is taken back, in the namespace with an inode
// number.
func undo(container string, inode uint64, at int) Record {
	r := record(container, at)
	r.Undo, r.NetNSID = true, netnsid.ID{Dev: 4, Inode: inode, Boot: "b"}
	return r
}

func TestMeans(t *testing.T) {
	a := undo("a", 1, 0)
	unknown := a
	unknown.NetNSID = netnsid.ID{}
	here, there := a.NetNSID, undo("a", 2, 0).NetNSID
	for _, c := range []struct {
		name  string
		r     Record
		netns string
		id    netnsid.ID
		want  bool
	}{
		{"DEL, anywhere", record("a", 0), "/elsewhere", there, true},
		{"undo, the same", a, a.NetNS, here, true},
		{"undo, another namespace at the path", a, a.NetNS, there, false},
		{"undo, the inode number come again", a, "/elsewhere", here, false},
		{"undo, namespace not known", unknown, a.NetNS, there, true},
		{"undo, namespace not known, another path", unknown, "/elsewhere", there, false},
	} {
		if got := c.r.Means(c.netns, c.id); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// An undo neither replaces a DEL nor another undo, nor the other way round.
func TestUndoStandsBesideDel(t *testing.T) {
	dir := t.TempDir()
	want := []Record{undo("a", 1, 1), record("a", 2), undo("a", 2, 3)}
	put(t, dir, want...)
	put(t, dir, want[2])
	if got := list(t, dir); !reflect.DeepEqual(got, want) {
		t.Fatalf("list %v, want %v", got, want)
	}
	if r, ok, err := Lookup(dir, want[0]); r != want[1] || !ok || err != nil {
		t.Errorf("Lookup = %v, %v, %v; want the DEL's", r, ok, err)
	}
	other := undo("b", 1, 4)
	put(t, dir, other)
	damaged := undo("a", 9, 5)
	if err := os.WriteFile(filepath.Join(dir, damaged.file()), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var settled []Record
	if err := Settle(dir, damaged, func(r Record) error { settled = append(settled, r); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(settled) != 3 || settled[0] != want[1] || !slices.Contains(settled, want[0]) || !slices.Contains(settled, want[2]) {
		t.Errorf("settled %v, want %v, the DEL first", settled, want)
	}
	// What the damaged one is about cannot be told: people are.
	rs, err := List(dir)
	if len(rs) != 1 || rs[0] != other || !errors.Is(err, ErrRecord) {
		t.Errorf("left are %v, %v", rs, err)
	}
}

func TestStraysGoAfterAWhile(t *testing.T) {
	dir := t.TempDir()
	young, old := filepath.Join(dir, "x"+tempMark+"1"), filepath.Join(dir, "x"+tempMark+"2")
	for _, p := range []string{young, old} {
		if err := os.WriteFile(p, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-2 * strayAge)
	if err := os.Chtimes(old, past, past); err != nil {
		t.Fatal(err)
	}
	if rs := list(t, dir); len(rs) != 0 {
		t.Errorf("list %v", rs)
	}
	if _, err := os.Stat(young); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("the old one is still there")
	}
}

func TestWritersOfOneAttachment(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 5 {
				if err := Write(dir, record("a", i)); err != nil {
					t.Error(err)
				}
				if _, err := List(dir); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left are %v, %v", entries, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"network":"n","containerID":"c","ifname":"eth0","since":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"version":1,"network":"","containerID":"c","ifname":"eth0"}`))
	f.Add([]byte(`{"version":1,"network":"n","containerID":"c","ifname":"eth0","netns":"/n","undo":true,"netnsID":{"dev":4,"inode":5,"boot":"b"},"since":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"version":"1"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parse(data)
		if err != nil {
			return
		}
		dir := t.TempDir()
		// What JSON cannot carry (times beyond the year 9999) Write refuses.
		if err := Write(dir, r); err != nil {
			return
		}
		again, err := List(dir)
		if err != nil || len(again) != 1 || again[0].file() != r.file() || again[0].NetNS != r.NetNS {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}
