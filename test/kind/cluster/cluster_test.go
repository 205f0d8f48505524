// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"netio.dev/netio/test/kind/artifact"
	"netio.dev/netio/test/kind/state"
	"netio.dev/netio/test/kind/topology"
)

func TestDNSManifest(t *testing.T) {
	objects, err := manifest(coredns(topology.IPv6Only))
	if err != nil {
		t.Fatal(err)
	}
	image := ""
	for _, o := range objects {
		if o.GetKind() == "Service" {
			if ip, _, err := unstructured.NestedString(o.Object, "spec", "clusterIP"); err != nil || ip != "fd00:10:96::a" {
				t.Errorf("at %q, %v", ip, err)
			}
		}
		if o.GetKind() == "Deployment" {
			list, _, err := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
			if err != nil || len(list) != 1 {
				t.Fatalf("containers %v, %v", list, err)
			}
			image = list[0].(map[string]any)["image"].(string)
		}
	}
	if image != artifact.CoreDNSImage {
		t.Errorf("image %q", image)
	}
}

func TestWrongNumberOfNodes(t *testing.T) {
	if err := Up(t.Context(), Options{Dir: state.Dir(t.TempDir())}); !errors.Is(err, topology.ErrNodes) {
		t.Error(err)
	}
}

// TestDown: what is recorded goes, and nothing else.
func TestDown(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := state.Dir(t.TempDir())
	if err := Down(t.Context(), dir); !errors.Is(err, state.ErrNone) {
		t.Errorf("none was up: %v", err)
	}
	cgroup := filepath.Join(t.TempDir(), "cluster")
	if err := os.MkdirAll(filepath.Join(cgroup, "n1", "kubepods"), 0o755); err != nil {
		t.Fatal(err)
	}
	supervisor, started := process(t)
	stranger, _ := process(t)
	for name, r := range map[string]state.Record{
		"crashed":           {Pid: stranger.Process.Pid, Started: "1", Cgroups: []string{cgroup}},
		"before it started": {Cgroups: []string{cgroup}},
		"up":                {Pid: supervisor.Process.Pid, Started: started},
	} {
		if err := dir.Save(&r); err != nil {
			t.Fatal(err)
		}
		if err := Down(t.Context(), dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, path := range append(r.Cgroups, dir.Run()) {
			if _, err := os.Stat(path); err == nil {
				t.Errorf("%s: %s is still there", name, path)
			}
		}
	}
	if err := supervisor.Wait(); err == nil {
		t.Error("the supervisor was not killed")
	}
	if _, err := state.StartTime(stranger.Process.Pid); err != nil {
		t.Errorf("a process with the number of one that had ended: %v", err)
	}
}

// process that runs until it is killed, at the latest with the test.
func process(t *testing.T) (cmd *exec.Cmd, started string) {
	t.Helper()
	cmd = exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if started, err = state.StartTime(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	return cmd, started
}

func TestPollEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	calls := 0
	err := poll(ctx, func() (bool, error) {
		calls++
		if calls == 2 {
			cancel(errTooLong)
		}
		return false, nil
	})
	if !errors.Is(err, errTooLong) {
		t.Error(err)
	}
	want := errors.New("broken")
	if err := poll(t.Context(), func() (bool, error) { return true, want }); !errors.Is(err, want) {
		t.Error(err)
	}
}
