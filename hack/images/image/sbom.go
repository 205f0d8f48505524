// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
)

// writeSBOM writes what an image is made of: the programs, and of each the modules and
// the Go release that its build information tells (CycloneDX 1.6, JSON). The same
// programs give the same bytes.
func writeSBOM(file, name, version string, programs []string) error {
	b := cyclonedx.NewBOM()
	b.Metadata = &cyclonedx.Metadata{Component: component(cyclonedx.ComponentTypeContainer, name, version, "pkg:oci/"+name+"?tag="+version)}
	var components []cyclonedx.Component
	var dependencies []cyclonedx.Dependency
	add := func(c *cyclonedx.Component) string {
		if !slices.ContainsFunc(components, func(other cyclonedx.Component) bool { return other.BOMRef == c.BOMRef }) {
			components = append(components, *c)
		}
		return c.BOMRef
	}
	var contents []string
	for _, program := range programs {
		info, err := buildinfo.ReadFile(program)
		if err != nil {
			return fmt.Errorf("read what %s is made of: %w", program, err)
		}
		base := filepath.Base(program)
		ref := add(component(cyclonedx.ComponentTypeApplication, base, version, "pkg:generic/"+base+"@"+version))
		contents = append(contents, ref)
		needs := []string{add(component(cyclonedx.ComponentTypeLibrary, "stdlib", info.GoVersion, "pkg:golang/stdlib@"+strings.TrimPrefix(info.GoVersion, "go")))}
		for _, m := range info.Deps {
			needs = append(needs, add(moduleComponent(m)))
		}
		dependencies = append(dependencies, cyclonedx.Dependency{Ref: ref, Dependencies: &needs})
	}
	dependencies = append([]cyclonedx.Dependency{{Ref: b.Metadata.Component.BOMRef, Dependencies: &contents}}, dependencies...)
	b.Components, b.Dependencies = &components, &dependencies
	var text bytes.Buffer
	if err := cyclonedx.NewBOMEncoder(&text, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(b, cyclonedx.SpecVersion1_6); err != nil {
		return fmt.Errorf("write bill of materials: %w", err)
	}
	return os.WriteFile(file, text.Bytes(), 0o644)
}

// moduleComponent is a module, or what stands in its place.
func moduleComponent(m *debug.Module) *cyclonedx.Component {
	if m.Replace != nil {
		m = m.Replace
	}
	c := component(cyclonedx.ComponentTypeLibrary, m.Path, m.Version, "pkg:golang/"+strings.ToLower(m.Path)+"@"+m.Version)
	if m.Sum != "" {
		// The checksum of go.sum, which is of the module's file tree.
		c.Properties = &[]cyclonedx.Property{{Name: "go.sum", Value: m.Sum}}
	}
	return c
}

// component has its package URL (purl-spec) as its reference.
func component(kind cyclonedx.ComponentType, name, version, purl string) *cyclonedx.Component {
	return &cyclonedx.Component{Type: kind, Name: name, Version: version, PackageURL: purl, BOMRef: purl}
}
