// SPDX-License-Identifier: Apache-2.0

// Package image writes container images as archives that any runtime imports,
// without a container engine: OCI image layouts (image-spec, image-layout.md) of
// one uncompressed layer, packed as tar. Images of one archive have the same
// files, and differ in what they run.
//
//	oci-layout  index.json ─┬─> blobs/sha256/MANIFEST ─┬─> blobs/sha256/CONFIG
//	                        │                          └─> blobs/sha256/LAYER (tar of the files)
//	                        └─> blobs/sha256/MANIFEST ─┬─> ...
//
// The same files give the same bytes.
package image

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Media types and annotations of the image-spec, and the one by which containerd
// learns the whole name.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"

	containerdName = "io.containerd.image.name"
)

// epoch is every file's time.
var epoch = time.Unix(0, 0).UTC()

// Image is a name, and what runs by it.
type Image struct {
	// Name with registry and tag: "netio.test/pause:1".
	Name            string
	Entrypoint, Cmd []string
	// User is UID or UID:GID, "" for root.
	User string
	// Labels are those of the image-spec (annotations.md) and others.
	Labels map[string]string
}

// searchPath is where programs are looked for.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// File is copied from Source on this machine to Path in the image, to be read
// and executed by all. Folders above it are made. It is a symbolic link if Link
// is set, and a folder that everybody may write to if neither is.
type File struct {
	Path, Source, Link string
}

// Tree lists the files and links below a folder, to be the same below the root.
func Tree(root string) ([]File, error) {
	var files []File
	err := filepath.WalkDir(root, func(source string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f := File{Path: strings.TrimPrefix(source, root), Source: source}
		switch {
		case d.Type() == fs.ModeSymlink:
			f.Source = ""
			f.Link, err = os.Readlink(source)
		case !d.Type().IsRegular():
			err = fmt.Errorf("%s is neither file nor link", source)
		}
		files = append(files, f)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	return files, nil
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Write writes the archive of images with the same files to a file, which is
// either the old or the new one whole at any time.
func Write(file string, files []File, images ...Image) error {
	if err := write(file, files, images); err != nil {
		return fmt.Errorf("write images %s: %w", file, err)
	}
	return nil
}

// part is a small file of the archive.
type part struct {
	name string
	data []byte
}

func write(file string, files []File, images []Image) (err error) {
	if len(files) == 0 || len(images) == 0 {
		return errors.New("there are no files, or no images")
	}
	// The layer's digest is its name, so it is made twice: for the digest first.
	hash, size := sha256.New(), counter(0)
	if err := writeLayer(io.MultiWriter(hash, &size), files); err != nil {
		return err
	}
	layer := descriptor{MediaType: typeLayer, Digest: fmt.Sprintf("sha256:%x", hash.Sum(nil)), Size: int64(size)}
	parts, err := describeImages(layer, images)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".image-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	w := tar.NewWriter(f)
	for _, p := range parts {
		if err := w.WriteHeader(header(p.name, 0o644, int64(len(p.data)))); err != nil {
			return err
		}
		if _, err := w.Write(p.data); err != nil {
			return err
		}
	}
	if err := w.WriteHeader(header(blob(layer.Digest), 0o644, layer.Size)); err != nil {
		return err
	}
	if err := writeLayer(w, files); err != nil {
		return err
	}
	if err := errors.Join(w.Close(), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// describeImages is all of an archive but the layer.
func describeImages(layer descriptor, images []Image) ([]part, error) {
	parts := []part{{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}}
	var manifests []descriptor
	for _, img := range images {
		if img.Name == "" {
			return nil, errors.New("an image has no name")
		}
		config, err := json.Marshal(map[string]any{
			"architecture": runtime.GOARCH, "os": "linux", "created": epoch,
			"config": map[string]any{"Entrypoint": img.Entrypoint, "Cmd": img.Cmd, "User": img.User, "Env": []string{searchPath}, "Labels": img.Labels},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{layer.Digest}},
		})
		if err != nil {
			return nil, err
		}
		manifest, err := json.Marshal(map[string]any{
			"schemaVersion": 2, "mediaType": typeManifest,
			"config": describe(typeConfig, config), "layers": []descriptor{layer},
		})
		if err != nil {
			return nil, err
		}
		top := describe(typeManifest, manifest)
		// Images that run the same have the same manifest.
		for _, p := range []part{{blob(top.Digest), manifest}, {blob(describe(typeConfig, config).Digest), config}} {
			if !slices.ContainsFunc(parts, func(other part) bool { return other.name == p.name }) {
				parts = append(parts, p)
			}
		}
		top.Annotations = map[string]string{containerdName: img.Name}
		manifests = append(manifests, top)
	}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": manifests})
	if err != nil {
		return nil, err
	}
	return append(parts, part{"index.json", index}), nil
}

// writeLayer writes the tar of the files, folders first.
func writeLayer(to io.Writer, files []File) error {
	w := tar.NewWriter(to)
	for _, dir := range folders(files) {
		h := header(dir+"/", 0o755, 0)
		h.Typeflag = tar.TypeDir
		if err := w.WriteHeader(h); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := copyFile(w, f); err != nil {
			return err
		}
	}
	return w.Close()
}

func copyFile(w *tar.Writer, f File) error {
	name := strings.TrimPrefix(f.Path, "/")
	switch {
	case f.Link != "":
		h := header(name, 0o777, 0)
		h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
		return w.WriteHeader(h)
	case f.Source == "":
		h := header(name+"/", 0o1777, 0)
		h.Typeflag = tar.TypeDir
		return w.WriteHeader(h)
	}
	in, err := os.Open(f.Source)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(header(name, 0o755, st.Size())); err != nil {
		return err
	}
	_, err = io.Copy(w, in)
	return err
}

// folders lists all folders above the files, outer ones first.
func folders(files []File) []string {
	var list []string
	for _, f := range files {
		for dir := path.Dir(strings.TrimPrefix(f.Path, "/")); dir != "."; dir = path.Dir(dir) {
			list = append(list, dir)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func header(name string, mode, size int64) *tar.Header {
	return &tar.Header{Name: name, Mode: mode, Size: size, ModTime: epoch, Format: tar.FormatPAX}
}

func describe(mediaType string, data []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(data)), Size: int64(len(data))}
}

// blob is where the content with a digest lies in the archive.
func blob(digest string) string {
	return "blobs/" + strings.Replace(digest, ":", "/", 1)
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
