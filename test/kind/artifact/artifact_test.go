// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"netio.dev/netio/test/kind/state"
)

func TestOnce(t *testing.T) {
	b := &Builder{Dir: state.Dir(t.TempDir()), Say: t.Logf}
	if err := os.MkdirAll(b.Dir.Bin(), 0o755); err != nil {
		t.Fatal(err)
	}
	builds, fail := 0, errors.New("broken")
	build := func() error {
		builds++
		return fail
	}
	for _, c := range []struct {
		key    string
		err    error
		builds int
	}{
		{"a", fail, 1},
		{"a", nil, 2}, // a failure is tried again
		{"a", nil, 2},
		{"b", nil, 3},
	} {
		fail = c.err
		if err := b.once("x", "x", c.key, build); !errors.Is(err, c.err) || builds != c.builds {
			t.Errorf("%+v: %v, %d builds", c, err, builds)
		}
	}
}

func TestKeyChangesWithSourcesAndWords(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]string{}
	look := func(what string, words ...string) {
		t.Helper()
		key, err := keyOf(dir, words...)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[key]; ok {
			t.Errorf("%s has the key of: %s", what, other)
		}
		seen[key] = what
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	look("nothing")
	look("a word", "ab")
	look("two words", "a", "b")
	write("main.go", "x")
	look("a file")
	write("main.go", "y")
	look("another content")
	write("go.sum", "")
	look("another file")
	if _, err := keyOf(filepath.Join(dir, "none")); err == nil {
		t.Error("a folder that is not there: no error")
	}
}

// TestVersion: the version that the binaries tell is the one that they are.
func TestVersion(t *testing.T) {
	for _, component := range []string{"kube", "e2e"} {
		text, err := os.ReadFile("../components/" + component + "/go.mod")
		if err != nil {
			t.Fatal(err)
		}
		required := regexp.MustCompile(`(?m)^(?:require)?\s+k8s\.io/kubernetes (v\S+)$`).FindSubmatch(text)
		if required == nil || string(required[1]) != kubernetesVersion {
			t.Errorf("%s/go.mod requires %s, told is %s", component, required, kubernetesVersion)
		}
	}
}
