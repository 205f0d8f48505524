// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// unpack reads the files of a tar.
func unpack(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

// follow takes the blob that a descriptor names, and checks it.
func follow(t *testing.T, files map[string][]byte, d descriptor) []byte {
	t.Helper()
	data, ok := files[blob(d.Digest)]
	if !ok || int64(len(data)) != d.Size || fmt.Sprintf("sha256:%x", sha256.Sum256(data)) != d.Digest {
		t.Fatalf("%s: there %v, %d bytes", d.Digest, ok, len(data))
	}
	return data
}

func TestArchive(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "binary")
	if err := os.WriteFile(source, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	img := Image{
		Name:       "netio.test/x:1",
		Entrypoint: []string{"/a/b/x"},
		User:       "65535",
		Files:      []File{{"/a/b/x", source}, {"/y", source}},
	}
	out := filepath.Join(dir, "x.tar")
	if err := Write(out, img); err != nil {
		t.Fatal(err)
	}
	archive, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	files := unpack(t, bytes.NewReader(archive))

	var index struct{ Manifests []descriptor }
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	var config struct {
		Config struct {
			Entrypoint []string
			User       string
		}
		Rootfs struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	for _, step := range []struct {
		data func() []byte
		to   any
	}{
		{func() []byte { return files["index.json"] }, &index},
		{func() []byte { return follow(t, files, index.Manifests[0]) }, &manifest},
		{func() []byte { return follow(t, files, manifest.Config) }, &config},
	} {
		if err := json.Unmarshal(step.data(), step.to); err != nil {
			t.Fatal(err)
		}
	}
	if name := index.Manifests[0].Annotations[containerdName]; name != img.Name {
		t.Errorf("name %q", name)
	}
	if config.Config.Entrypoint[0] != "/a/b/x" || config.Config.User != "65535" || config.Rootfs.DiffIDs[0] != manifest.Layers[0].Digest {
		t.Errorf("config %+v", config)
	}
	layer := unpack(t, bytes.NewReader(follow(t, files, manifest.Layers[0])))
	for name, want := range map[string]string{"a/": "", "a/b/": "", "a/b/x": "content", "y": "content"} {
		if got, ok := layer[name]; !ok || string(got) != want {
			t.Errorf("layer: %s: there %v, %q", name, ok, got)
		}
	}

	if err := Write(out, img); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(out); err != nil || !bytes.Equal(again, archive) {
		t.Errorf("the same files gave another archive (%v)", err)
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	err := Write(filepath.Join(dir, "x.tar"), Image{Name: "x", Files: []File{{"/x", filepath.Join(dir, "none")}}})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := Write(filepath.Join(dir, "x.tar"), Image{Name: "x"}); err == nil {
		t.Error("no files: no error")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
