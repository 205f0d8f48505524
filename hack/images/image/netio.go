// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"netio.dev/netio/pkg/kmod"
)

// Repository is the name, without tags, under which NetIO's images are made.
const Repository = "netio.dev"

// product is an image of NetIO: as the stage of the same name in the Dockerfile.
type product struct {
	name, title, user, licences string
	programs                    []string
	// module: with the kernel module's source. toolchain: on top of a root in which
	// it can be built.
	module, toolchain bool
}

// nonRoot is the user of what needs no rights on its node.
const nonRoot = "65532:65532"

var products = []product{
	{"netio-agent", "NetIO agent", "0:0", "Apache-2.0 AND GPL-2.0-only", []string{"netio-agent", "netio-cni", "netioctl"}, true, false},
	{"netio-operator", "NetIO operator", nonRoot, "Apache-2.0", []string{"netio-operator"}, false, false},
	{"netio-kmod", "NetIO kernel module: source and toolchain", "0:0", "Apache-2.0 AND GPL-2.0-only", []string{"netio-agent"}, true, true},
}

// moduleDir is where images have the module's source.
const moduleDir = "/usr/local/kmod"

// NetIO is NetIO's images, of the programs in folder bin. The files are named NAME.tar
// in folder to, and NAME.cdx.json are the bills of materials of their programs.
type NetIO struct {
	Bin, To string
	// Module is the folder of the kernel module's source.
	Module string
	// Toolchain is a folder that is a root with make, a compiler and what they need; ""
	// for no image netio-kmod.
	Toolchain string
	// Version is the images' tag and label.
	Version string
	// Revision is of the sources, "" if it is not known.
	Revision string
}

// products are those that are made.
func (n *NetIO) products() []product {
	return slices.DeleteFunc(slices.Clone(products), func(p product) bool { return p.toolchain && n.Toolchain == "" })
}

func (n *NetIO) archive(p product) string { return filepath.Join(n.To, p.name+".tar") }

// Archives are the files that Write writes.
func (n *NetIO) Archives() []string {
	var list []string
	for _, p := range n.products() {
		list = append(list, n.archive(p))
	}
	return list
}

// Sources are the files that the images are made of, but for the toolchain's.
func (n *NetIO) Sources() ([]string, error) {
	var list []string
	for _, p := range n.products() {
		files, err := n.files(p)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			list = append(list, f.Source)
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// files are those of a product, but for the toolchain's.
func (n *NetIO) files(p product) ([]File, error) {
	var files []File
	for _, program := range p.programs {
		files = append(files, File{Path: "/usr/local/bin/" + program, Source: filepath.Join(n.Bin, program)})
	}
	if !p.module {
		return files, nil
	}
	err := filepath.WalkDir(n.Module, func(source string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !kmod.IsSource(d.Name()) {
			return err
		}
		files = append(files, File{Path: moduleDir + strings.TrimPrefix(source, filepath.Clean(n.Module)), Source: source})
		return nil
	})
	if err == nil && len(files) == len(p.programs) {
		err = errors.New("no file of it is there")
	}
	if err != nil {
		return nil, fmt.Errorf("the kernel module's source in %s: %w", n.Module, err)
	}
	return files, nil
}

// Write writes the archives.
func (n *NetIO) Write() error {
	for _, p := range n.products() {
		files, err := n.files(p)
		if err != nil {
			return err
		}
		if p.toolchain {
			root, err := Tree(n.Toolchain)
			if err != nil {
				return err
			}
			files = append(append(root, File{Path: "/tmp"}), files...)
		}
		labels := map[string]string{
			"org.opencontainers.image.title":    p.title,
			"org.opencontainers.image.licenses": p.licences,
			"org.opencontainers.image.version":  n.Version,
		}
		if n.Revision != "" {
			labels["org.opencontainers.image.revision"] = n.Revision
		}
		err = Write(n.archive(p), files, Image{
			Name: fmt.Sprintf("%s/%s:%s", Repository, p.name, n.Version), Entrypoint: p.programs[:1], User: p.user, Labels: labels,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// WriteSBOMs writes the bills of materials.
func (n *NetIO) WriteSBOMs() error {
	for _, p := range n.products() {
		var programs []string
		for _, program := range p.programs {
			programs = append(programs, filepath.Join(n.Bin, program))
		}
		if err := writeSBOM(filepath.Join(n.To, p.name+".cdx.json"), p.name, n.Version, programs); err != nil {
			return err
		}
	}
	return nil
}
