// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"path/filepath"
)

// Repository is the name, without tags, under which NetIO's images are made.
const Repository = "netio.dev"

// product is an image of NetIO: as the stage of the same name in the Dockerfile.
type product struct {
	name, title, user string
	programs          []string
}

// nonRoot is the user of what needs no rights on its node.
const nonRoot = "65532:65532"

var products = []product{
	{"netio-agent", "NetIO agent", "0:0", []string{"netio-agent", "netio-cni", "netioctl"}},
	{"netio-operator", "NetIO operator", nonRoot, []string{"netio-operator"}},
}

// NetIO is NetIO's images, of the programs in folder bin. The files are named NAME.tar
// in folder to.
type NetIO struct {
	Bin, To string
	// Version is the images' tag and label.
	Version string
	// Revision is of the sources, "" if it is not known.
	Revision string
}

// Archives are the files that Write writes.
func (n *NetIO) Archives() []string {
	var list []string
	for _, p := range products {
		list = append(list, filepath.Join(n.To, p.name+".tar"))
	}
	return list
}

// Programs are the files that the images are made of.
func (n *NetIO) Programs() []string {
	var list []string
	for _, p := range products {
		for _, program := range p.programs {
			list = append(list, filepath.Join(n.Bin, program))
		}
	}
	return list
}

// Write writes the archives.
func (n *NetIO) Write() error {
	for i, p := range products {
		var files []File
		for _, program := range p.programs {
			files = append(files, File{Path: "/usr/local/bin/" + program, Source: filepath.Join(n.Bin, program)})
		}
		labels := map[string]string{
			"org.opencontainers.image.title":    p.title,
			"org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.version":  n.Version,
		}
		if n.Revision != "" {
			labels["org.opencontainers.image.revision"] = n.Revision
		}
		err := Write(n.Archives()[i], files, Image{
			Name: fmt.Sprintf("%s/%s:%s", Repository, p.name, n.Version), Entrypoint: []string{p.name}, User: p.user, Labels: labels,
		})
		if err != nil {
			return err
		}
	}
	return nil
}
