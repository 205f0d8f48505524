// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseCgroups(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []hierarchy
	}{
		"version 2": {"0::/user.slice/a:b\n", []hierarchy{{"", "/user.slice/a:b"}}},
		"both": {"3:cpu,cpuacct:/a\n2:name=systemd:/\n0::/\n",
			[]hierarchy{{"cpu,cpuacct", "/a"}, {"name=systemd", "/"}, {"", "/"}}},
		"nothing": {"", nil},
	} {
		if diff := cmp.Diff(c.want, parseCgroups([]byte(c.text)), cmp.AllowUnexported(hierarchy{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// files writes files below a new folder, and makes the folders above them.
func files(t *testing.T, content map[string]string) string {
	t.Helper()
	top := t.TempDir()
	for path, text := range content {
		path = filepath.Join(top, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return top
}

func TestCpusetOfVersion1IsPassedOn(t *testing.T) {
	top := files(t, map[string]string{"cpuset.cpus": "0-1\n", "cpuset.mems": "0\n"})
	if err := MakeCgroup(filepath.Join(top, "a")); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"cpuset.cpus": "0-1\n", "cpuset.mems": "0\n"} {
		if got, err := os.ReadFile(filepath.Join(top, "a", file)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
}

func TestControllersOfVersion2AreEnabled(t *testing.T) {
	top := files(t, map[string]string{
		"cgroup.controllers":       "cpu memory\n",
		"a/cgroup.controllers":     "cpu\n",
		"cgroup.subtree_control":   "",
		"a/cgroup.subtree_control": "",
	})
	if err := MakeCgroup(filepath.Join(top, "a")); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"cgroup.subtree_control": "+cpu +memory", "a/cgroup.subtree_control": "+cpu"} {
		if got, err := os.ReadFile(filepath.Join(top, file)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
}
