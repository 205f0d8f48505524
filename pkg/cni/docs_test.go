// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"os"
	"regexp"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

// The configurations in the documentation are right.
func TestDocumentedConfigurations(t *testing.T) {
	doc, err := os.ReadFile("../../docs/cni.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(doc, -1)
	if len(found) < 2 {
		t.Errorf("only %d configurations found", len(found))
	}
	for _, f := range found {
		list, err := libcni.ConfListFromBytes(f[1])
		if err != nil {
			t.Errorf("%v: %s", err, f[1])
			continue
		}
		for _, p := range list.Plugins {
			if p.Network.Type != "netio-cni" {
				continue
			}
			p, err = libcni.InjectConf(p, map[string]any{"name": list.Name, "cniVersion": list.CNIVersion})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := readConfig(p.Bytes); err != nil {
				t.Errorf("%v: %s", err, f[1])
			}
		}
	}
}
