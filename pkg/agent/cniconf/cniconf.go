// SPDX-License-Identifier: Apache-2.0

// Package cniconf puts the CNI plugin where container runtimes look for it, and
// takes it away again.
package cniconf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"netio.dev/netio/pkg/agent/atomicfile"
	"netio.dev/netio/pkg/agent/config"
)

// Plugin is the name of the plugin's binary, and its type in a conflist.
const Plugin = "netio-cni"

// ErrForeign is returned where a file that is not ours has the name of ours.
var ErrForeign = errors.New("not written by netio-agent")

// Install puts the plugin's binary, read from source, and the network's
// conflist in place: the binary first, since a runtime uses a network as soon as
// it sees it. What is the same already is not touched, and a plugin that is
// there already will do if there is none at source.
func Install(c *config.Config, source string) error {
	i := c.InstallCNI
	target := filepath.Join(i.BinDir, Plugin)
	switch binary, err := os.ReadFile(source); {
	case err == nil:
		if err := write(target, binary, 0o755); err != nil {
			return fmt.Errorf("install CNI plugin: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist) || !exists(target):
		return fmt.Errorf("read CNI plugin to install: %w; put %s beside netio-agent", err, Plugin)
	}
	conflist := Conflist(c)
	path := filepath.Join(i.ConfDir, i.File)
	if is, err := os.ReadFile(path); err == nil && !ours(is) {
		return fmt.Errorf("install CNI network: %s: %w; move it away or choose another installCNI.file", path, ErrForeign)
	}
	if err := write(path, conflist, 0o644); err != nil {
		return fmt.Errorf("install CNI network: %w", err)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Remove takes away what Install made. What is gone already is no error; a
// conflist that is not ours stays, and is ErrForeign.
func Remove(c *config.Config) error {
	i := c.InstallCNI
	path := filepath.Join(i.ConfDir, i.File)
	switch is, err := os.ReadFile(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("remove CNI network: %w", err)
	case !ours(is):
		return fmt.Errorf("remove CNI network: %s: %w", path, ErrForeign)
	}
	if err := errors.Join(atomicfile.Remove(path), atomicfile.Remove(filepath.Join(i.BinDir, Plugin))); err != nil {
		return fmt.Errorf("remove CNI plugin: %w", err)
	}
	return nil
}

// write replaces a file if it differs, so that its readers see all or nothing.
func write(path string, data []byte, mode os.FileMode) error {
	st, err := os.Stat(path)
	if err == nil && st.Mode().Perm() == mode {
		if is, err := os.ReadFile(path); err == nil && bytes.Equal(is, data) {
			return nil
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.Write(path, data, mode)
}

// conflist is a network configuration list of the CNI specification, section 1.
type conflist struct {
	CNIVersion  string           `json:"cniVersion"`
	CNIVersions []string         `json:"cniVersions"`
	Name        string           `json:"name"`
	Plugins     []map[string]any `json:"plugins"`
}

// Conflist is the network's configuration list.
func Conflist(c *config.Config) []byte {
	own := map[string]any{
		"type":         Plugin,
		"capabilities": map[string]bool{"ips": true},
		"agentSocket":  c.Socket,
		"stateDir":     c.StateDir,
	}
	l := conflist{
		CNIVersion:  "1.0.0", // for runtimes that do not know cniVersions
		CNIVersions: []string{"0.4.0", "1.0.0", "1.1.0"},
		Name:        c.InstallCNI.Network,
		Plugins:     []map[string]any{own},
	}
	if c.InstallCNI.PortMappings {
		l.Plugins = append(l.Plugins, map[string]any{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}})
	}
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		panic(err) // of strings and booleans
	}
	return append(data, '\n')
}

// ours tells whether a conflist has our plugin first.
func ours(data []byte) bool {
	var l conflist
	return json.Unmarshal(data, &l) == nil && len(l.Plugins) > 0 && l.Plugins[0]["type"] == Plugin
}
