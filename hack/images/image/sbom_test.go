// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"
)

// TestSBOM: what a program is made of is told, of the one that packs images too. (Those
// of tests do not know.)
func TestSBOM(t *testing.T) {
	program, file := filepath.Join(t.TempDir(), "images"), filepath.Join(t.TempDir(), "x.cdx.json")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "netio.dev/netio/hack/images").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var before []byte
	for range 2 {
		if err := writeSBOM(file, "netio-x", "v1", []string{program}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if before != nil && !bytes.Equal(before, text) {
			t.Error("the same program gave another text")
		}
		before = text
	}
	var b cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(before), cyclonedx.BOMFileFormatJSON).Decode(&b); err != nil {
		t.Fatal(err)
	}
	refs := map[string]bool{b.Metadata.Component.BOMRef: true}
	for _, c := range *b.Components {
		if refs[c.BOMRef] {
			t.Errorf("%s is there twice", c.BOMRef)
		}
		refs[c.BOMRef] = true
	}
	for _, d := range *b.Dependencies {
		for _, ref := range append(*d.Dependencies, d.Ref) {
			if !refs[ref] {
				t.Errorf("%s is not there", ref)
			}
		}
	}
	for _, want := range []string{"pkg:golang/stdlib@1.", "pkg:golang/github.com/cyclonedx/cyclonedx-go@v"} {
		if !strings.Contains(string(before), want) {
			t.Errorf("no %s in:\n%s", want, before)
		}
	}
	if err := writeSBOM(file, "x", "v1", []string{file}); err == nil {
		t.Error("no error for a file that is no program")
	}
}
