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

	"github.com/google/go-cmp/cmp"
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
	files := []File{{Path: "/a/b/x", Source: source}, {Path: "/y", Source: source}, {Path: "/z", Link: "y"}, {Path: "/tmp"}}
	images := []Image{
		{Name: "netio.test/x:1", Entrypoint: []string{"/a/b/x"}, User: "65535", Labels: map[string]string{"a": "b"}},
		{Name: "netio.test/y:1", Cmd: []string{"/y"}},
		{Name: "netio.test/y:2", Cmd: []string{"/y"}},
	}
	out := filepath.Join(dir, "x.tar")
	if err := Write(out, files, images...); err != nil {
		t.Fatal(err)
	}
	archive, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var index struct{ Manifests []descriptor }
	parts := unpack(t, bytes.NewReader(archive))
	if err := json.Unmarshal(parts["index.json"], &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Manifests) != len(images) {
		t.Fatalf("manifests %v", index.Manifests)
	}
	for i, img := range images {
		if name := index.Manifests[i].Annotations[containerdName]; name != img.Name {
			t.Errorf("name %q", name)
		}
		config, layer := read(t, parts, index.Manifests[i])
		if diff := cmp.Diff(img, Image{img.Name, config.Entrypoint, config.Cmd, config.User, config.Labels}); diff != "" {
			t.Errorf("%s: %s", img.Name, diff)
		}
		for name, want := range map[string]string{"a/": "", "a/b/": "", "a/b/x": "content", "y": "content", "z": "", "tmp/": ""} {
			if got, ok := layer[name]; !ok || string(got) != want {
				t.Errorf("layer: %s: there %v, %q", name, ok, got)
			}
		}
	}

	if err := Write(out, files, images...); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(out); err != nil || !bytes.Equal(again, archive) {
		t.Errorf("the same files gave another archive (%v)", err)
	}
}

type imageConfig struct {
	Entrypoint, Cmd []string
	User            string
	Labels          map[string]string
}

// read follows an image's manifest to what it runs, and to its files.
func read(t *testing.T, parts map[string][]byte, top descriptor) (imageConfig, map[string][]byte) {
	t.Helper()
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	var config struct {
		Config imageConfig
		Rootfs struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(follow(t, parts, top), &manifest); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(follow(t, parts, manifest.Config), &config); err != nil {
		t.Fatal(err)
	}
	if len(manifest.Layers) != 1 || config.Rootfs.DiffIDs[0] != manifest.Layers[0].Digest {
		t.Errorf("layers %v, config %+v", manifest.Layers, config)
	}
	return config.Config, unpack(t, bytes.NewReader(follow(t, parts, manifest.Layers[0])))
}

// TestTree: what a folder has is what an image has.
func TestTree(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "usr", "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "usr", "bin", "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("usr/bin", filepath.Join(root, "bin")); err != nil {
		t.Fatal(err)
	}
	got, err := Tree(root)
	if err != nil {
		t.Fatal(err)
	}
	want := []File{{Path: "/bin", Link: "usr/bin"}, {Path: "/usr/bin/x", Source: filepath.Join(root, "usr", "bin", "x")}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := Tree(filepath.Join(root, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "x.tar")
	err := Write(out, []File{{Path: "/x", Source: filepath.Join(dir, "none")}}, Image{Name: "x"})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := Write(out, nil, Image{Name: "x"}); err == nil {
		t.Error("no files: no error")
	}
	if err := Write(out, []File{{Path: "/x"}}, Image{}); err == nil {
		t.Error("no name: no error")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
