// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/kmod"
	"netio.dev/netio/pkg/operator/install"
	"netio.dev/netio/test/vm"
)

// A machine is a node here: its root is the container's, which has the node's file system
// in /host, with /proc, /sys and /dev.
//
//	/usr/local/bin/netio-agent, /usr/local/kmod    the image
//	/host/{proc,sys,dev}                           bound to the machine's
//	/host/lib/modules/RELEASE                      what the node has
//	/modules/{fits,other}/netio.ko                 to be put there

// programDir and hostModules are where the image has its program, and the node modules.
const (
	programDir  = "/usr/local/bin/"
	hostModules = "/host/lib/modules/"
	outcomeFile = "/run/netio/kernel-module.json"
)

// recipient is a machine that modules are delivered to.
type recipient struct {
	*vm.Machine
	t       *testing.T
	release string
}

// startNode boots one. Without modules it has no file of netio.ko.
func startNode(t *testing.T, c vm.Config) *recipient {
	t.Helper()
	c.Files = append(c.Files, vm.File{Guest: programDir + "netio-agent", Host: vm.Build(t, "./cmd/netio-agent")}, vm.File{Guest: "/usr/local/kmod", Host: "../../kmod"})
	for _, name := range []string{"mount", "mkdir", "cat", "cp", "rm", "sh", "sleep"} {
		program, err := vm.Program(name)
		if err != nil {
			t.Fatal(err)
		}
		c.Files = append(c.Files, program...)
	}
	n := &recipient{vm.Start(t, c), t, c.Series.Release}
	n.shell("mkdir -p /host/proc /host/sys /host/dev /host/var /host/etc /run/netio " + hostModules + n.release + "/updates && cd /host && for d in proc sys dev; do mount --rbind /$d $d; done")
	return n
}

func (n *recipient) shell(text string) string {
	n.t.Helper()
	return n.MustRun(n.t, vm.Command{Args: []string{"sh", "-c", text}, Timeout: time.Minute}).Output
}

// install puts a module where the node's kernel looks, or takes it away.
func (n *recipient) install(module string) {
	n.t.Helper()
	at := hostModules + n.release + "/updates/netio.ko"
	if module == "" {
		n.shell("rm -f " + at)
		return
	}
	n.shell("cp " + module + " " + at)
}

// deliver runs the command line of the init container, and returns what it has noted.
func (n *recipient) deliver(m v1alpha1.KernelModule, patience time.Duration) *kmod.Outcome {
	n.t.Helper()
	command := install.KernelModuleCommand(&v1alpha1.NetIOClusterSpec{Image: v1alpha1.Image{Name: "netio-agent:v1"}, Device: v1alpha1.DeviceAuto, KernelModule: &m})
	command[0] = programDir + command[0]
	began := time.Now()
	n.MustRun(n.t, vm.Command{Args: command, Timeout: patience}) // it ends well, always
	n.t.Logf("delivered in %.1f s", time.Since(began).Seconds())
	var o kmod.Outcome
	text := n.shell("cat " + outcomeFile)
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		n.t.Fatalf("%v in %s", err, text)
	}
	return &o
}

// fails checks what was noted, and which device a forwarder takes then.
func (n *recipient) fails(o *kmod.Outcome, state kmod.State, reason kmod.Reason, cure, device string) {
	n.t.Helper()
	if o.State != state || o.Problem == nil || o.Problem.Reason != reason || !strings.Contains(o.Problem.Cure, cure) {
		n.t.Errorf("%s, %+v; expected %s, %s, and %q as cure", o.State, o.Problem, state, reason, cure)
	}
	n.t.Logf("%s: %v", reason, o.Problem)
	n.forward(device)()
}

// forward starts a forwarder as the pod's container does, sees that it forwards by a
// device, and returns what ends it.
func (n *recipient) forward(device string) (end func()) {
	n.t.Helper()
	p, err := n.Start(vm.Command{Args: []string{programDir + "netio-agent", "forward", "--take-over", "--device", "auto", "--forwarding-file", "/run/forwarding"}})
	if err != nil {
		n.t.Fatal(err)
	}
	const patience = time.Minute
	for late := time.Now().Add(patience); !strings.Contains(p.Output(), "msg=forwarding "); time.Sleep(50 * time.Millisecond) { // between two looks
		if p.Ended() || time.Now().After(late) {
			n.t.Fatalf("it does not forward:\n%s", p.Output())
		}
	}
	if !strings.Contains(p.Output(), "using the "+device+" device") {
		n.t.Errorf("not by the %s device:\n%s", device, p.Output())
	}
	if err := n.Exists(n.t.Context(), "/run/forwarding"); err != nil {
		n.t.Error(err)
	}
	return func() {
		if err := p.Signal(n.t.Context(), syscall.SIGTERM); err != nil {
			n.t.Error(err)
		}
		if _, err := p.Wait(n.t.Context()); err != nil {
			n.t.Error(err)
		}
	}
}

// anotherABI builds the module with an ABI that this tree's programs do not have.
func anotherABI(t *testing.T, series vm.Series) string {
	t.Helper()
	tree := t.TempDir()
	if err := os.CopyFS(filepath.Join(tree, "kmod"), os.DirFS("../../kmod")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(tree, "hack"), os.DirFS("../../hack")); err != nil {
		t.Fatal(err)
	}
	header := filepath.Join(tree, "kmod/include/uapi/linux/netio.h")
	text, err := os.ReadFile(header)
	if err != nil {
		t.Fatal(err)
	}
	const major = "#define NETIO_ABI_MAJOR\t\t1\n"
	changed := bytes.Replace(text, []byte(major), []byte("#define NETIO_ABI_MAJOR\t\t9\n"), 1)
	if bytes.Equal(text, changed) {
		t.Fatalf("no %q in the header", major)
	}
	if err := os.WriteFile(header, changed, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), filepath.Join(tree, "hack/kmod.sh"), "build", series.Name).CombinedOutput(); err != nil {
		t.Fatalf("build a module with another ABI: %v\n%s", err, out)
	}
	return filepath.Join(tree, "build/kmod", series.Name, "netio.ko")
}

// nodesWithModules are the kernels to deliver to: real ones, of distributions.
func nodesWithModules(t *testing.T) []vm.Series {
	t.Helper()
	var all []vm.Series
	for _, s := range chosenForNICs(t) {
		if !s.UML && !s.Debug {
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		t.Skip("no kernel of a distribution")
	}
	return all
}

// TestDeliver runs the init container's command on a node that has what it needs, and on
// nodes that lack something, each in its way: it ends well, says what would help, and
// a forwarder then has the device that there is.
func TestDeliver(t *testing.T) {
	for _, series := range nodesWithModules(t) {
		t.Run(series.Name, func(t *testing.T) {
			n := startNode(t, vm.Config{Series: series, Memory: 1024, Files: []vm.File{
				{Guest: "/modules/fits/netio.ko", Host: vm.KernelModules(t, series)[0]}, {Guest: "/modules/other/netio.ko", Host: anotherABI(t, series)},
			}})
			auto, host := v1alpha1.KernelModule{Mode: v1alpha1.KernelModuleAuto}, v1alpha1.KernelModule{Mode: v1alpha1.KernelModuleHost}

			// Neither a module nor headers.
			n.fails(n.deliver(auto, time.Minute), kmod.StateMissing, kmod.NoHeaders, "put one that fits into /lib/modules", "soft")
			// A module of another version's, which is not loaded.
			n.install("/modules/other/netio.ko")
			n.fails(n.deliver(host, time.Minute), kmod.StateMissing, kmod.WrongABI, "put one that fits", "soft")
			// A file system that cannot be written. Headers are looked for before.
			n.shell("mkdir -p /host/build/include/generated " + hostModules + n.release + " && cd /host/build && echo > Makefile && echo CONFIG_MODULES=y > .config && " +
				`echo '#define UTS_RELEASE "` + n.release + `"' > include/generated/utsrelease.h && cp -r /host/build ` + hostModules + n.release + "/build && mount -t tmpfs -o ro none /host/var")
			n.fails(n.deliver(v1alpha1.KernelModule{Mode: v1alpha1.KernelModuleBuilt}, time.Minute), kmod.StateMissing, kmod.ReadOnly, "build.cacheDir", "soft")

			// Another version's is loaded, and a process has its device open.
			if err := n.Insert(t.Context(), "/modules/other/netio.ko"); err != nil {
				t.Fatal(err)
			}
			n.install("/modules/fits/netio.ko")
			user, err := n.Start(vm.Command{Args: []string{"sh", "-c", "exec 3<>/dev/netio; echo open; exec sleep 1000"}})
			if err != nil {
				t.Fatal(err)
			}
			for !strings.Contains(user.Output(), "open") {
				if user.Ended() {
					t.Fatal(user.Output())
				}
				time.Sleep(10 * time.Millisecond) // between two looks
			}
			o := n.deliver(auto, time.Minute)
			if !strings.HasPrefix(o.ABI, "9.") {
				t.Errorf("ABI %s", o.ABI)
			}
			n.fails(o, kmod.StateOtherABI, kmod.InUse, "drain the node and delete its netio-agent pods", "soft")
			if err := user.Signal(t.Context(), syscall.SIGKILL); err != nil {
				t.Error(err)
			}
			if _, err := user.Wait(t.Context()); err != nil {
				t.Error(err)
			}

			// Nobody uses it any more: it is replaced, and a forwarder has the kernel
			// device.
			if o := n.deliver(auto, time.Minute); o.State != kmod.StateLoaded || o.Origin != kmod.OriginHost || o.ABI != abi.VersionString(abi.Version) {
				t.Errorf("%+v, %v", o, o.Problem)
			}
			end := n.forward("kernel")
			if o := n.deliver(auto, time.Minute); o.State != kmod.StateLoaded || o.Origin != kmod.OriginLoaded {
				t.Errorf("in use: %+v, %v", o, o.Problem)
			}
			end()
			unload := vm.Command{Args: []string{programDir + "netio-agent", "kmod", "unload", "--end-idle", "--root", "/host"}, Timeout: time.Minute}
			if out := n.MustRun(t, unload).Output; !strings.Contains(out, "the module is unloaded") {
				t.Error(out)
			}
			if err := n.Exists(t.Context(), "/sys/module/netio"); err == nil {
				t.Error("the module is loaded still")
			}
		})
	}
}

// TestDeliverEnforced: a kernel that takes only signed modules, and one that is not.
func TestDeliverEnforced(t *testing.T) {
	for _, series := range nodesWithModules(t) {
		t.Run(series.Name, func(t *testing.T) {
			n := startNode(t, vm.Config{Series: series, Memory: 1024, Append: "module.sig_enforce=1", Files: []vm.File{{Guest: "/modules/fits/netio.ko", Host: vm.KernelModules(t, series)[0]}}})
			n.install("/modules/fits/netio.ko")
			n.fails(n.deliver(v1alpha1.KernelModule{Mode: v1alpha1.KernelModuleAuto}, time.Minute), kmod.StateMissing, kmod.KeyRejected, "enrol", "soft")
		})
	}
}

// TestDeliverBuilds: the init container builds the module on a node that has the headers of
// its kernel, with the toolchain of its image, and it is not built twice.
func TestDeliverBuilds(t *testing.T) {
	if *briefFlag {
		t.Skip("an emulated processor compiles for minutes")
	}
	for _, series := range nodesWithModules(t) {
		t.Run(series.Name, func(t *testing.T) {
			n := startNode(t, vm.Config{Series: series, Memory: 2048, Files: append(headers(t, series), compiler(t)...), Timeout: 40 * time.Minute, BootTimeout: 8 * time.Minute})
			build := v1alpha1.KernelModule{Mode: v1alpha1.KernelModuleBuilt, Build: &v1alpha1.KernelModuleBuild{Image: "netio-kmod:v1"}}
			if o := n.deliver(build, 30*time.Minute); o.State != kmod.StateLoaded || o.Origin != kmod.OriginBuild {
				t.Fatalf("%+v, %v\n%s", o, o.Problem, n.shell("cat /host/var/cache/netio/kmod/*/build.log || true"))
			}
			n.forward("kernel")()
			n.MustRun(t, vm.Command{Args: []string{programDir + "netio-agent", "kmod", "unload", "--root", "/host", "--end-idle"}, Timeout: time.Minute})
			if o := n.deliver(build, time.Minute); o.State != kmod.StateLoaded || o.Origin != kmod.OriginBuild {
				t.Errorf("from the cache: %+v, %v", o, o.Problem)
			}
		})
	}
}

// headers are those of a kernel, on the node at /lib/modules/RELEASE/build. They refer to the
// rest by absolute paths, of this machine.
func headers(t *testing.T, series vm.Series) []vm.File {
	t.Helper()
	root := filepath.Dir(filepath.Dir(series.Image))
	files := []vm.File{{Guest: hostModules + series.Release + "/build", Host: filepath.Join(root, "usr/src/linux-headers-"+series.Release)}}
	common, err := filepath.Glob(filepath.Join(root, "usr/src/linux-headers-*-common"))
	if err != nil || len(common) != 1 {
		t.Skipf("no headers as Debian has them: %v, %v", common, err)
	}
	entries, err := os.ReadDir(common[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "arch" {
			files = append(files, vm.File{Guest: filepath.Join(common[0], e.Name()), Host: filepath.Join(common[0], e.Name())})
		}
	}
	for _, arch := range []string{"arch/x86", "arch/Kconfig"} {
		if at := filepath.Join(common[0], arch); exists(at) {
			files = append(files, vm.File{Guest: at, Host: at})
		}
	}
	for _, tools := range []string{"usr/lib", "usr/src"} {
		found, err := filepath.Glob(filepath.Join(root, tools, "linux-kbuild-*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range found {
			files = append(files, vm.File{Guest: at, Host: at})
		}
	}
	return files
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// compiler is this machine's, and what a build of modules calls.
func compiler(t *testing.T) []vm.File {
	t.Helper()
	var files []vm.File
	add := func(name, guest string) {
		program, err := vm.Program(name)
		if err != nil {
			t.Skip(err)
		}
		if guest != "" {
			program[0].Guest = guest
		}
		files = append(files, program...)
	}
	for _, name := range []string{"make", "as", "ld", "ar", "nm", "objcopy", "objdump", "strip", "readelf", "bash", "dash", "sed", "grep", "awk", "mv", "ln", "touch", "cmp", "expr", "uname", "sort",
		"tr", "cut", "head", "tail", "wc", "xargs", "find", "printf", "test", "date", "basename", "dirname", "readlink", "mktemp", "true", "false", "echo", "rmdir", "ls", "id", "whoami", "pwd", "env", "tee", "uniq", "nproc", "install"} {
		add(name, "")
	}
	add("gcc-12", "/usr/bin/gcc-12")
	for _, part := range []string{"cc1", "collect2", "lto-wrapper", "liblto_plugin.so"} {
		out, err := exec.CommandContext(t.Context(), "gcc-12", "-print-prog-name="+part).Output()
		path := strings.TrimSpace(string(out))
		if part == "liblto_plugin.so" {
			out, err = exec.CommandContext(t.Context(), "gcc-12", "-print-file-name="+part).Output()
			path = strings.TrimSpace(string(out))
		}
		if err != nil || !filepath.IsAbs(path) {
			t.Fatalf("%s: %q, %v", part, path, err)
		}
		add(path, path)
	}
	out, err := exec.CommandContext(t.Context(), "gcc-12", "-print-file-name=include").Output()
	if err != nil {
		t.Fatal(err)
	}
	include := strings.TrimSpace(string(out))
	// What the programs of headers need: modpost, objtool.
	for _, library := range []string{"libelf.so.1", "libz.so.1", "libc.so.6"} {
		found, _ := filepath.Glob("/lib/x86_64-linux-gnu/" + library)
		for _, at := range found {
			files = append(files, vm.File{Guest: at, Host: at})
		}
	}
	return append(files, vm.File{Guest: include, Host: include})
}
