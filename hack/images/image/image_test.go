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
	"slices"
	"strings"
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

// TestNetIO: which files NetIO's images are made of, and that an image is left out whose
// toolchain is not there.
func TestNetIO(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"bin/netio-agent", "bin/netio-cni", "bin/netioctl", "bin/netio-operator", "kmod/Kbuild", "kmod/main.c", "kmod/main.mod.c", "kmod/main.o", "kmod/include/netio.h", "tools/usr/bin/gcc"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(name), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	n := NetIO{Bin: filepath.Join(dir, "bin"), To: dir, Module: filepath.Join(dir, "kmod"), Version: "v1"}
	if got := n.Archives(); len(got) != 2 {
		t.Errorf("without a toolchain: %v", got)
	}
	n.Toolchain = filepath.Join(dir, "tools")
	if err := n.Write(); err != nil {
		t.Fatal(err)
	}
	for archive, want := range map[string][]string{
		"netio-operator.tar": {"usr/local/bin/netio-operator"},
		"netio-agent.tar":    {"usr/local/bin/netio-agent", "usr/local/bin/netio-cni", "usr/local/bin/netioctl", "usr/local/kmod/Kbuild", "usr/local/kmod/include/netio.h", "usr/local/kmod/main.c"},
		"netio-kmod.tar":     {"usr/bin/gcc", "usr/local/bin/netio-agent", "usr/local/kmod/Kbuild", "usr/local/kmod/include/netio.h", "usr/local/kmod/main.c"},
	} {
		f, err := os.Open(filepath.Join(dir, archive))
		if err != nil {
			t.Error(err)
			continue
		}
		parts := unpack(t, f)
		f.Close()
		var index struct{ Manifests []descriptor }
		if err := json.Unmarshal(parts["index.json"], &index); err != nil {
			t.Fatal(err)
		}
		_, layer := read(t, parts, index.Manifests[0])
		var got []string
		for name := range layer {
			if !strings.HasSuffix(name, "/") {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", archive, diff)
		}
	}
	if sources, err := n.Sources(); err != nil || len(sources) != 7 {
		t.Errorf("%v, %v", sources, err)
	}
	n.Module = filepath.Join(dir, "none")
	if _, err := n.Sources(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no source: %v", err)
	}
}
