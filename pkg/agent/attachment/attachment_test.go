// SPDX-License-Identifier: Apache-2.0

package attachment

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"netio.dev/netio/pkg/agent/netnsid"
)

func sample(container string) *Attachment {
	return &Attachment{
		ID: ID{"netio", container, "eth0"}, Port: container + "/eth0", NetNS: "/run/netns/" + container,
		NetNSID: netnsid.ID{Dev: 4, Inode: 4026532198, Boot: "b"}, Namespace: "default", Name: "web", Labels: map[string]string{"app": "web"},
		Addresses: []netip.Addr{netip.MustParseAddr("10.244.0.2"), netip.MustParseAddr("fd00::2")}, MTU: 1500, IfIndex: 2,
		Routes: []Route{
			{Destination: netip.MustParsePrefix("10.244.0.1/32")},
			{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.244.0.1")},
		},
		Since: time.Unix(1, 2).UTC(),
	}
}

var compare = cmp.Options{
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

func TestStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "attachments")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []*Attachment{sample("a"), sample("b")}
	for _, a := range want {
		if err := s.Put(a); err != nil {
			t.Fatal(err)
		}
	}
	want[1].IfIndex = 7
	if err := s.Put(want[1]); err != nil {
		t.Fatal(err)
	}

	// Killed in the middle of writing.
	stray := filepath.Join(dir, ".netio@c@eth0.json.new-1")
	if err := os.WriteFile(stray, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stray); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the stray is still there: %v", err)
	}
	got, unreadable, err := s.Load()
	if err != nil || len(unreadable) != 0 {
		t.Fatal(unreadable, err)
	}
	if d := cmp.Diff(want, got, compare); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for range 2 {
		if err := s.Delete(want[0].ID); err != nil {
			t.Fatal(err)
		}
	}
	if got, _, err = s.Load(); err != nil || len(got) != 1 || got[0].ContainerID != "b" {
		t.Fatalf("after the removal %v, %v", got, err)
	}
}

func TestLoadUnreadable(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(sample("a")); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, "netio@a@eth0.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"netio@b@eth0.json": string(whole[:20]),
		"netio@c@eth0.json": string(whole), // a's
		"netio@d@eth0.json": "{}",
		"@.json":            "{}",
		"README":            "not ours",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, unreadable, err := s.Load()
	if len(all) != 1 || len(unreadable) != 3 {
		t.Errorf("%d attachments and %v unreadable, expected 1 and 3", len(all), unreadable)
	}
	if err == nil || strings.Count(err.Error(), "restart its pod") != 4 || !strings.Contains(err.Error(), "netio@b@eth0.json") {
		t.Errorf("error %v, expected four files", err)
	}
}

func TestCheck(t *testing.T) {
	long := strings.Repeat("x", 190)
	tests := []struct {
		name string
		id   ID
		ok   bool
	}{
		{"usual", ID{"netio", "3f2a", "eth0"}, true},
		{"dots and dashes", ID{"k8s-pod-network.1", "a_b", "net1@2"}, true},
		{"empty network", ID{"", "a", "eth0"}, false},
		{"slash in the network", ID{"a/b", "a", "eth0"}, false},
		{"dot first", ID{"netio", "..", "eth0"}, false},
		{"slash in the container", ID{"netio", "../../etc", "eth0"}, false},
		{"interface with slash", ID{"netio", "a", "eth/0"}, false},
		{"long interface", ID{"netio", "a", "abcdefghijklmnop"}, false},
		{"long container", ID{"netio", long, "eth0"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.id.Check(); (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v", err)
			}
			if tt.ok {
				if back, ok := parseFile(tt.id.file()); !ok || back != tt.id {
					t.Errorf("file name gives back %v", back)
				}
			}
		})
	}
}

func TestConcurrent(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			a := sample(fmt.Sprint("c", i))
			if err := s.Put(a); err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				if err := s.Delete(a.ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if all, _, err := s.Load(); err != nil || len(all) != 8 {
		t.Fatalf("%d attachments, %v", len(all), err)
	}
}

// FuzzParse: whatever the disk holds, no panic, and nothing half is accepted.
func FuzzParse(f *testing.F) {
	f.Add("netio@a@eth0.json", []byte(`{"network":"netio","containerID":"a","ifName":"eth0","port":"p","netNS":"/n","addresses":["10.0.0.2"],"routes":[{"destination":"0.0.0.0/0"}]}`))
	f.Add("netio@a@eth0.json", []byte(`{"network":"netio","containerID":"a"`))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		a, err := parse(name, data)
		if err != nil {
			return
		}
		if a.file() != name || len(a.Addresses) == 0 {
			t.Fatalf("took %+v from %s", a, name)
		}
	})
}
