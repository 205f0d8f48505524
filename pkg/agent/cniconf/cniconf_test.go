// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"netio.dev/netio/pkg/agent/config"
)

func setUp(t *testing.T) (*config.Config, string) {
	dir := t.TempDir()
	source := filepath.Join(dir, "built", Plugin)
	if err := errors.Join(os.Mkdir(filepath.Dir(source), 0o755), os.WriteFile(source, []byte("binary"), 0o644)); err != nil {
		t.Fatal(err)
	}
	return &config.Config{Socket: "/run/n/agent.sock", StateDir: "/srv/n", InstallCNI: &config.InstallCNI{
		BinDir: filepath.Join(dir, "bin"), ConfDir: filepath.Join(dir, "net.d"), Network: "pods", File: "10-pods.conflist", PortMappings: true,
	}}, source
}

func TestInstallAndRemove(t *testing.T) {
	c, source := setUp(t)
	for range 2 {
		if err := Install(c, source); err != nil {
			t.Fatal(err)
		}
	}
	st, err := os.Stat(filepath.Join(c.InstallCNI.BinDir, Plugin))
	if err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("the binary: %v, %v", st, err)
	}
	// As a runtime reads it.
	l, err := libcni.ConfListFromFile(filepath.Join(c.InstallCNI.ConfDir, "10-pods.conflist"))
	if err != nil {
		t.Fatal(err)
	}
	if l.Name != "pods" || len(l.Plugins) != 2 || l.Plugins[0].Network.Type != Plugin || !l.Plugins[1].Network.Capabilities["portMappings"] {
		t.Errorf("read %+v", l)
	}
	for _, want := range []string{`"/run/n/agent.sock"`, `"/srv/n"`} {
		if !strings.Contains(string(l.Bytes), want) {
			t.Errorf("%s is not in %s", want, l.Bytes)
		}
	}
	for range 2 {
		if err := Remove(c); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{c.InstallCNI.BinDir, c.InstallCNI.ConfDir} {
		if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
			t.Errorf("left %v, %v", left, err)
		}
	}
}

func TestForeign(t *testing.T) {
	c, source := setUp(t)
	path := filepath.Join(c.InstallCNI.ConfDir, c.InstallCNI.File)
	const theirs = `{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge"}]}`
	if err := errors.Join(os.MkdirAll(c.InstallCNI.ConfDir, 0o755), os.WriteFile(path, []byte(theirs), 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := Install(c, source); !errors.Is(err, ErrForeign) {
		t.Errorf("install: %v", err)
	}
	if err := Remove(c); !errors.Is(err, ErrForeign) {
		t.Errorf("remove: %v", err)
	}
	if is, _ := os.ReadFile(path); string(is) != theirs {
		t.Errorf("the file is now %s", is)
	}
}

// The plugin was installed by other means.
func TestBinaryIsThere(t *testing.T) {
	c, source := setUp(t)
	target := filepath.Join(c.InstallCNI.BinDir, Plugin)
	if err := errors.Join(os.MkdirAll(c.InstallCNI.BinDir, 0o755), os.WriteFile(target, []byte("theirs"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := Install(c, source+"-none"); err != nil {
		t.Fatal(err)
	}
	if is, _ := os.ReadFile(target); string(is) != "theirs" {
		t.Errorf("the plugin is now %q", is)
	}
}

func TestNoBinary(t *testing.T) {
	c, source := setUp(t)
	if err := Install(c, source+"-none"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "put netio-cni beside") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(c.InstallCNI.ConfDir); !errors.Is(err, os.ErrNotExist) {
		t.Error("the network is there without its plugin")
	}
}
