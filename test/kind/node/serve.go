// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"embed"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"

	"netio.dev/netio/test/kind/artifact"
	"netio.dev/netio/test/kind/pki"
	"netio.dev/netio/test/kind/topology"
)

const containerdSocket = "/run/containerd/containerd.sock"

// containerdPatience is how long containerd may take until it listens.
const containerdPatience = time.Minute

//go:embed config
var configs embed.FS

// serve starts everything, in an order in which nobody waits for long, and
// returns only if something is wrong with the node itself.
func (m *machine) serve() error {
	if err := m.writeConfigs(configDir); err != nil {
		return err
	}
	containerd := service{"containerd", program("containerd"), []string{"--config", filepath.Join(configDir, "containerd.toml")}}
	for _, s := range append(m.controlPlane(), containerd) {
		if err := m.keep(s); err != nil {
			return err
		}
	}
	// Images are never pulled: all are there before a pod can ask for them.
	if err := m.importImages(); err != nil {
		return err
	}
	for _, s := range m.kubernetes() {
		if err := m.keep(s); err != nil {
			return err
		}
	}
	select {}
}

func (m *machine) importImages() error {
	if err := awaitSocket(containerdSocket, containerdPatience); err != nil {
		return fmt.Errorf("containerd: %w; see containerd.log", err)
	}
	archives, err := filepath.Glob(filepath.Join(imagesDir, "*.tar"))
	if err != nil {
		return fmt.Errorf("find images: %w", err)
	}
	for _, a := range archives {
		args := ImportCommand(filepath.Base(a))
		if _, err := m.command(args[0], args[1:]...); err != nil {
			return fmt.Errorf("import image: %w", err)
		}
	}
	return nil
}

// ImportCommand is the command on a node that imports an archive, by its path in
// the folder of images.
func ImportCommand(archive string) []string {
	return []string{program("ctr"), "--address", containerdSocket, "--namespace", "k8s.io", "images", "import", filepath.Join(imagesDir, archive)}
}

// writeConfigs fills in the files of config/, into dir.
func (m *machine) writeConfigs(dir string) error {
	files, err := template.ParseFS(configs, "config/*")
	if err != nil {
		return fmt.Errorf("read templates: %w", err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read limit of open files: %w", err)
	}
	values := map[string]any{
		"Name":       m.Name,
		"Addrs":      m.Addrs,
		"Bin":        binDir,
		"PKI":        pkiDir,
		"Kubelet":    filepath.Join(pkiDir, pki.KubeletName(m.Node)),
		"Socket":     containerdSocket,
		"PauseImage": artifact.PauseImage,
		"PodCIDR":    join(m.record.Families.Of(topology.PodCIDRs)),
		"DNS":        m.record.Families.DNS(),
		"Domain":     topology.Domain,
		"KubeProxy":  m.record.KubeProxy,
		"MaxFiles":   min(limit.Max, 1_000_000),
	}
	for _, t := range files.Templates() {
		var text bytes.Buffer
		if err := t.Execute(&text, values); err != nil {
			return fmt.Errorf("fill in template: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, t.Name()), text.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	return nil
}

// kubernetes is what every node runs of it.
func (m *machine) kubernetes() []service {
	addrs := make([]string, len(m.Addrs))
	for i, a := range m.Addrs {
		addrs[i] = a.String()
	}
	services := []service{
		{"kubelet", program("kubelet"), []string{
			"--config", filepath.Join(configDir, "kubelet.yaml"),
			"--kubeconfig", filepath.Join(pkiDir, pki.KubeletName(m.Node)+".conf"),
			"--hostname-override", m.Name,
			"--node-ip", strings.Join(addrs, ","),
			"--node-labels", "topology.kubernetes.io/zone=" + m.Zone,
			"--v", "2"}},
	}
	if m.record.KubeProxy {
		services = append(services, service{"kube-proxy", program("kube-proxy"), []string{"--config", filepath.Join(configDir, "kube-proxy.yaml")}})
	}
	return services
}

func join(prefixes []netip.Prefix) string {
	list := make([]string, len(prefixes))
	for i, p := range prefixes {
		list[i] = p.String()
	}
	return strings.Join(list, ",")
}
