// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"netio.dev/netio/hack/images/debian"
	"netio.dev/netio/hack/images/image"
)

// What BuildSuite leaves in the folder of programs, and of the suite's images.
const (
	SuiteProgram = "e2e.test"
	SuiteRunner  = "ginkgo"
	SuiteArchive = "suite.tar"
)

// suiteModule is where what the suite is built of belongs to.
const suiteModule = "k8s.io/kubernetes"

// suitePrograms are the packages of programs for the suite and its pods.
var suitePrograms = []string{
	"github.com/onsi/ginkgo/v2/ginkgo",
	suiteModule + "/test/images/agnhost",
	suiteModule + "/test/images/regression-issue-74839",
}

// suitePackages have the commands that the suite's specs call in pods.
var suitePackages = []string{"bash", "bind9-dnsutils", "busybox", "curl", "iperf", "iproute2", "libc-bin", "netcat-openbsd", "socat", "wget"}

// suiteConfigs make the commands behave as those of the suite's own images do.
var suiteConfigs = map[string]string{
	"etc/nsswitch.conf": "hosts: files dns\n",
	"etc/wgetrc":        "tries = 1\n", // busybox's wget does not try again
}

// suiteImage is what runs by the images of some repositories. The suite itself
// says with which tags it wants them.
type suiteImage struct {
	repositories    []string
	entrypoint, cmd []string
}

// suiteImages stand in for those that the suite pulls. That of nginx is no nginx,
// but answers on port 80 too.
var suiteImages = []suiteImage{
	{[]string{"registry.k8s.io/e2e-test-images/agnhost", "registry.k8s.io/e2e-test-images/glibc-dns-testing"}, []string{"/agnhost"}, []string{"pause"}},
	{[]string{"registry.k8s.io/e2e-test-images/nginx"}, []string{"/agnhost"}, []string{"test-webserver"}},
	{[]string{"registry.k8s.io/e2e-test-images/busybox"}, nil, []string{"sh"}},
	{[]string{"registry.k8s.io/e2e-test-images/regression-issue-74839"}, []string{"/regression-issue-74839"}, nil},
	{[]string{"registry.k8s.io/pause"}, []string{"/pause"}, nil},
}

// BuildSuite builds the Kubernetes end-to-end suite, its runner and the images of
// its pods, as far as they are not there. What Build builds is there already.
func (b *Builder) BuildSuite(ctx context.Context) error {
	if err := b.prepare(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{b.suite, b.suiteRoot, b.packSuite} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *Builder) suite(ctx context.Context) error {
	dir := filepath.Join(b.Source, "test/kind/components/e2e")
	flags := kubeFlags()
	key, err := keyOf(dir, append([]string{b.goVersion, flags}, suitePrograms...)...)
	if err != nil {
		return err
	}
	return b.once("e2e", "the Kubernetes end-to-end suite, 5 minutes on two CPUs the first time", key, func() error {
		programs := append([]string{"build", "-ldflags", flags, "-o", b.Dir.Bin() + "/"}, suitePrograms...)
		if _, err := b.output(ctx, dir, "go", programs...); err != nil {
			return err
		}
		_, err := b.output(ctx, dir, "go", "test", "-c", "-ldflags", flags, "-o", filepath.Join(b.Dir.Bin(), SuiteProgram), suiteModule+"/test/e2e")
		return err
	})
}

// suiteDir is the root of the suite's images: files of Debian or Ubuntu.
func (b *Builder) suiteDir() string { return filepath.Join(b.Dir.Debian(), "suite") }

func (b *Builder) suiteRoot(ctx context.Context) error {
	what := "packages " + strings.Join(suitePackages, " ")
	return b.once("suite", what, what, func() error {
		root := b.suiteDir()
		if err := debian.UnpackAll(ctx, root, suitePackages); err != nil {
			return err
		}
		// Not called by any spec, and a third of it all.
		if err := os.RemoveAll(filepath.Join(root, "usr/share")); err != nil {
			return err
		}
		applets, err := b.output(ctx, root, "chroot", root, "/bin/busybox", "--list")
		if err != nil {
			return err
		}
		if err := link("nc.openbsd", filepath.Join(root, "bin/nc")); err != nil {
			return err
		}
		for _, name := range strings.Fields(applets) {
			if !hasCommand(root, name) {
				if err := link("/bin/busybox", filepath.Join(root, "bin", name)); err != nil {
					return err
				}
			}
		}
		for path, text := range suiteConfigs {
			if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
}

// hasCommand tells whether a root file system has a command already.
func hasCommand(root, name string) bool {
	return slices.ContainsFunc([]string{"usr/sbin", "usr/bin", "sbin", "bin"}, func(dir string) bool {
		_, err := os.Lstat(filepath.Join(root, dir, name))
		return err == nil
	})
}

func (b *Builder) packSuite(ctx context.Context) error {
	names, err := b.output(ctx, b.Source, filepath.Join(b.Dir.Bin(), SuiteProgram), "--list-images")
	if err != nil {
		return err
	}
	images, err := nameSuiteImages(strings.Fields(names))
	if err != nil {
		return err
	}
	files, err := b.suiteFiles(ctx)
	if err != nil {
		return err
	}
	// They are as new as what they are made of.
	words := []string{fmt.Sprint(images), fmt.Sprint(files)}
	for _, of := range []string{"e2e", "suite", "coredns"} {
		built, err := os.ReadFile(b.stamp(of))
		if err != nil {
			return fmt.Errorf("find what is built: %w", err)
		}
		words = append(words, string(built))
	}
	key, err := keyOf("", words...)
	if err != nil {
		return err
	}
	return b.once("suite-images", "the suite's images", key, func() error {
		if err := os.MkdirAll(b.Dir.SuiteImages(), 0o755); err != nil {
			return err
		}
		return image.Write(filepath.Join(b.Dir.SuiteImages(), SuiteArchive), files, images...)
	})
}

// suiteFiles are all that the suite's pods find.
func (b *Builder) suiteFiles(ctx context.Context) ([]image.File, error) {
	files, err := image.Tree(b.suiteDir())
	if err != nil {
		return nil, err
	}
	for _, program := range []string{"agnhost", "coredns", "pause", "regression-issue-74839"} {
		files = append(files, image.File{Path: "/" + program, Source: filepath.Join(b.Dir.Bin(), program)})
	}
	// agnhost looks for them in the root.
	module, err := b.output(ctx, filepath.Join(b.Source, "test/kind/components/e2e"), "go", "list", "-m", "-f", "{{.Dir}}", suiteModule)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"localhost.crt", "localhost.key"} {
		files = append(files, image.File{Path: "/" + name, Source: filepath.Join(strings.TrimSpace(module), "test/images/agnhost/porter", name)})
	}
	return append(files, image.File{Path: "/tmp"}, image.File{Path: "/uploads"}), nil
}

// nameSuiteImages gives the images the names that the suite asks for. Every one
// has to be asked for, or the suite wants another one instead.
func nameSuiteImages(wanted []string) ([]image.Image, error) {
	wanted = slices.Compact(slices.Sorted(slices.Values(wanted)))
	var images []image.Image
	for _, img := range suiteImages {
		for _, repository := range img.repositories {
			found := false
			for _, name := range wanted {
				if strings.HasPrefix(name, repository+":") {
					found = true
					images = append(images, image.Image{Name: name, Entrypoint: img.entrypoint, Cmd: img.cmd})
				}
			}
			if !found {
				return nil, errors.New("the suite has no image " + repository)
			}
		}
	}
	return images, nil
}
