// SPDX-License-Identifier: Apache-2.0

// Package artifact builds what a cluster is made of: from Go modules, whose
// checksums are in go.sum files and the checksum database, and from packages of
// the machine's own Debian mirror.
//
//	test/kind/components/kube      ──go build──> bin/kube, and links to it
//	test/kind/components/coredns   ──go build──> bin/coredns ─┐
//	test/kind/components/pause     ──go build──> bin/pause  ──┼─image─> images/*.tar
//	test/kind/components/probe     ──go build──> bin/probe  ──┘
//	modules of containerd, portmap, helm ──go install> bin/containerd ...
//	NetIO's own programs           ────────────────────────────image─> images/netio-agent.tar ...
//	package runc                   ──dpkg -x───> debian/runc/, link in bin
//
// and, for who asks for the Kubernetes end-to-end suite:
//
//	test/kind/components/e2e       ──go build──> bin/e2e.test, ginkgo
//	                               ──go build──> bin/agnhost ─┐
//	packages bash, curl ...        ──dpkg -x───> debian/suite ─┴─image─> images/suite/*.tar
//
// What is there already, of the same sources, is not built again.
package artifact

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"netio.dev/netio/hack/images/image"
	"netio.dev/netio/test/kind/state"
)

// Versions of what is no requirement in a go.mod of ours. That of Kubernetes is
// what components/kube/go.mod requires.
const (
	kubernetesVersion = "v1.37.2"
	containerdVersion = "v2.4.2"
	pluginsVersion    = "v1.9.1"
	helmVersion       = "v3.22.0"
)

// Names of the images.
const (
	PauseImage   = "netio.test/pause:1"
	ProbeImage   = "netio.test/probe:1"
	CoreDNSImage = "netio.test/coredns:1"
)

// Builder builds into Dir.
type Builder struct {
	Dir state.Dir
	// Source is the top of NetIO's source tree.
	Source string
	// NetIO is the folder of NetIO's programs.
	NetIO string
	// Say tells of a build that takes long, before it begins.
	Say func(format string, args ...any)

	// NetIOTag is the tag of NetIO's images, NetIOArchives are their files, after Build.
	NetIOTag      string
	NetIOArchives []string

	goVersion string
}

// kubeNames are the components that bin/kube is.
var kubeNames = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"}

// Build builds all that is not there.
func (b *Builder) Build(ctx context.Context) error {
	if err := b.prepare(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{b.runc, b.containerd, b.portmap, b.helm, b.coredns, b.kube, b.own, b.images, b.netio} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// BuildNetIO packs NetIO's images alone.
func (b *Builder) BuildNetIO(ctx context.Context) error {
	if err := b.prepare(ctx); err != nil {
		return err
	}
	return b.netio(ctx)
}

// prepare makes the folders, and asks for the compiler's version.
func (b *Builder) prepare(ctx context.Context) error {
	for _, dir := range []string{b.Dir.Bin(), b.Dir.Images(), b.Dir.Debian()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	version, err := b.output(ctx, b.Source, "go", "version")
	if err != nil {
		return err
	}
	b.goVersion = version
	return nil
}

// kubeFlags tell programs of Kubernetes their version.
func kubeFlags() string {
	const version = "k8s.io/component-base/version"
	minor := strings.Split(kubernetesVersion, ".")[1]
	return "-s -w -X " + version + ".gitVersion=" + kubernetesVersion + " -X " + version + ".gitMajor=1 -X " + version + ".gitMinor=" + minor
}

func (b *Builder) kube(ctx context.Context) error {
	if err := b.component(ctx, "kube", "Kubernetes and etcd, 15 minutes on two CPUs the first time", kubeFlags()); err != nil {
		return err
	}
	for _, name := range kubeNames {
		if err := link("kube", filepath.Join(b.Dir.Bin(), name)); err != nil {
			return err
		}
	}
	return nil
}

func (b *Builder) coredns(ctx context.Context) error {
	return b.component(ctx, "coredns", "CoreDNS", "-s -w")
}

// component builds a module of test/kind/components.
func (b *Builder) component(ctx context.Context, name, what, ldflags string) error {
	dir := filepath.Join(b.Source, "test/kind/components", name)
	key, err := keyOf(dir, b.goVersion, ldflags)
	if err != nil {
		return err
	}
	return b.once(name, what, key, func() error {
		_, err := b.output(ctx, dir, "go", "build", "-ldflags", ldflags, "-o", filepath.Join(b.Dir.Bin(), name), ".")
		return err
	})
}

// own builds programs of this module; the go command knows what is new.
func (b *Builder) own(ctx context.Context) error {
	_, err := b.output(ctx, b.Source, "go", "build", "-ldflags", "-s -w", "-o", b.Dir.Bin()+"/", "./test/kind/components/pause", "./test/kind/components/probe")
	return err
}

func (b *Builder) containerd(ctx context.Context) error {
	const module = "github.com/containerd/containerd/v2"
	args := []string{"-tags", "no_btrfs,no_devmapper,no_zfs",
		"-ldflags", "-s -w -X " + module + "/version.Version=" + containerdVersion}
	for _, command := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
		args = append(args, module+"/cmd/"+command+"@"+containerdVersion)
	}
	return b.install(ctx, "containerd", "containerd, 3 minutes", args...)
}

// portmap is the CNI plugin that gives pods ports of their nodes.
func (b *Builder) portmap(ctx context.Context) error {
	return b.install(ctx, "portmap", "the CNI plugin portmap", "-ldflags", "-s -w",
		"github.com/containernetworking/plugins/plugins/meta/portmap@"+pluginsVersion)
}

// helm is what NetIO is installed with.
func (b *Builder) helm(ctx context.Context) error {
	return b.install(ctx, "helm", "helm, 2 minutes", "-ldflags", "-s -w", "helm.sh/helm/v3/cmd/helm@"+helmVersion)
}

// install builds programs of a module that is not required by one of ours.
func (b *Builder) install(ctx context.Context, name, what string, args ...string) error {
	args = append([]string{"install"}, args...)
	key, err := keyOf("", append(args, b.goVersion)...)
	if err != nil {
		return err
	}
	return b.once(name, what, key, func() error {
		_, err := b.output(ctx, string(b.Dir), "go", args...)
		return err
	})
}

// images packs the images. Their archives are as new as the programs in them.
func (b *Builder) images(context.Context) error {
	for _, img := range []struct {
		program, name, user string
	}{
		{"pause", PauseImage, "65535:65535"},
		{"probe", ProbeImage, ""},
		{"coredns", CoreDNSImage, ""},
	} {
		program, archive := filepath.Join(b.Dir.Bin(), img.program), filepath.Join(b.Dir.Images(), img.program+".tar")
		if newer(archive, program) {
			continue
		}
		err := image.Write(archive, []image.File{{Path: "/" + img.program, Source: program}},
			image.Image{Name: img.name, Entrypoint: []string{"/" + img.program}, User: img.user})
		if err != nil {
			return err
		}
	}
	return nil
}

// netio packs NetIO's images. Those of other programs have another tag, as kubelet
// does not start pods anew for an image of the same name.
func (b *Builder) netio(context.Context) error {
	n := image.NetIO{Bin: b.NetIO, To: b.Dir.Images(), Module: filepath.Join(b.Source, "kmod")}
	h := sha256.New()
	sources, err := n.Sources()
	if err != nil {
		return err
	}
	for _, file := range sources {
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read NetIO's programs: %w; make build", err)
		}
		h.Write(data)
	}
	n.Version = fmt.Sprintf("test-%x", h.Sum(nil)[:6])
	b.NetIOTag, b.NetIOArchives = n.Version, n.Archives()
	return b.once("netio-images", "NetIO's images", n.Version, n.Write)
}

func newer(a, b string) bool {
	as, aerr := os.Stat(a)
	bs, berr := os.Stat(b)
	return aerr == nil && berr == nil && as.ModTime().After(bs.ModTime())
}

// stamp is the file that is written when something has been built.
func (b *Builder) stamp(name string) string { return filepath.Join(b.Dir.Bin(), "."+name+".key") }

// once calls build unless it was done for the same key before.
func (b *Builder) once(name, what, key string, build func() error) error {
	stamp := b.stamp(name)
	if was, err := os.ReadFile(stamp); err == nil && string(was) == key {
		return nil
	}
	b.Say("building %s", what)
	began := time.Now()
	if err := build(); err != nil {
		return fmt.Errorf("build %s: %w", name, err)
	}
	b.Say("built %s in %v", name, time.Since(began).Round(time.Second))
	if err := os.WriteFile(stamp, []byte(key), 0o644); err != nil {
		return fmt.Errorf("note that %s is built: %w", name, err)
	}
	return nil
}

// output runs a command with the flags that the whole project builds with, so
// that it shares one build cache. An error has the end of its output.
func (b *Builder) output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off", "GOBIN="+b.Dir.Bin(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		const enough = 4000
		tail := out[max(0, len(out)-enough):]
		return "", fmt.Errorf("%s %s: %w\n%s", name, args[0], err, tail)
	}
	return string(out), nil
}

// link makes a symbolic link, or leaves the one that is there.
func link(to, path string) error {
	if is, err := os.Readlink(path); err == nil && is == to {
		return nil
	}
	_ = os.Remove(path)
	if err := os.Symlink(to, path); err != nil {
		return fmt.Errorf("link %s: %w", path, err)
	}
	return nil
}
