// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSuiteImagesHaveTheTagsThatTheSuiteWants(t *testing.T) {
	wanted := []string{
		"registry.k8s.io/e2e-test-images/agnhost:2", "registry.k8s.io/e2e-test-images/agnhost:1",
		"registry.k8s.io/e2e-test-images/agnhost:2", "registry.k8s.io/e2e-test-images/agnhost-other:1",
		"registry.k8s.io/e2e-test-images/glibc-dns-testing:1", "registry.k8s.io/e2e-test-images/nginx:1",
		"registry.k8s.io/e2e-test-images/busybox:1", "registry.k8s.io/e2e-test-images/regression-issue-74839:1",
		"registry.k8s.io/pause:1",
	}
	images, err := nameSuiteImages(wanted)
	if err != nil {
		t.Fatal(err)
	}
	commands := map[string]string{}
	for _, img := range images {
		commands[img.Name] = append(img.Entrypoint, img.Cmd...)[0]
	}
	for name, want := range map[string]string{
		"registry.k8s.io/e2e-test-images/agnhost:1":       "/agnhost",
		"registry.k8s.io/e2e-test-images/agnhost:2":       "/agnhost",
		"registry.k8s.io/e2e-test-images/agnhost-other:1": "",
		"registry.k8s.io/e2e-test-images/busybox:1":       "sh",
	} {
		if commands[name] != want {
			t.Errorf("%s runs %q, want %q", name, commands[name], want)
		}
	}
	if len(images) != 7 {
		t.Errorf("images %v", images)
	}
	if _, err := nameSuiteImages(wanted[1:8]); err == nil {
		t.Error("the suite wants no pause image: no error")
	}
}

func TestHasCommand(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Links lead nowhere yet where the root is not the root.
	if err := os.Symlink("/bin/other", filepath.Join(root, "usr/bin/x")); err != nil {
		t.Fatal(err)
	}
	if !hasCommand(root, "x") || hasCommand(root, "y") {
		t.Errorf("x %v, y %v", hasCommand(root, "x"), hasCommand(root, "y"))
	}
}
