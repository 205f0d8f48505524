// SPDX-License-Identifier: Apache-2.0

package node

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Where a node finds what comes with the cluster.
const (
	binDir    = "/opt/cluster/bin"
	imagesDir = "/opt/cluster/images"
	netioDir  = "/opt/netio/bin"
	pkiDir    = "/etc/kubernetes/pki"
	configDir = "/etc/kubernetes"
	logDir    = "/var/log"
)

// bind is a folder or file of the machine and where it is on the node.
type bind struct {
	from, to string
	writable bool
	// optional: where the machine has none, neither has the node.
	optional bool
}

func (m *machine) binds() []bind {
	state := m.dir.Node(m.Name)
	list := []bind{
		{from: "/usr", to: "/usr"},
		{from: "/etc/ssl", to: "/etc/ssl", optional: true},
		{from: "/etc/alternatives", to: "/etc/alternatives", optional: true},
		{from: "/etc/ld.so.cache", to: "/etc/ld.so.cache", optional: true},
		{from: "/dev", to: "/dev", writable: true},
		{from: filepath.Join(state, "var"), to: "/var", writable: true},
		{from: m.dir.NodeLog(m.Name), to: logDir, writable: true},
		{from: m.dir.Bin(), to: binDir},
		{from: m.dir.Debian(), to: filepath.Join(filepath.Dir(binDir), "debian")},
		{from: m.dir.Images(), to: imagesDir},
		{from: m.dir.PKI(), to: pkiDir},
		{from: m.record.NetIO, to: netioDir},
	}
	// Links into /usr, or folders on machines where they are not merged.
	for _, dir := range []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"} {
		list = append(list, bind{from: dir, to: dir, optional: true})
	}
	return list
}

// enterRoot makes the node's file system and changes into it.
func (m *machine) enterRoot() error {
	root := filepath.Join(m.dir.Node(m.Name), "root")
	for _, dir := range []string{root, filepath.Join(m.dir.Node(m.Name), "var"), m.dir.NodeLog(m.Name)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	if err := mount("tmpfs", root, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, b := range m.binds() {
		if err := b.mount(root); err != nil {
			return err
		}
	}
	for _, v := range []struct {
		fstype, target string
		flags          uintptr
		options        string
	}{
		{"proc", "/proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"tmpfs", "/tmp", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	} {
		if err := mount(v.fstype, filepath.Join(root, v.target), v.fstype, v.flags, v.options); err != nil {
			return err
		}
	}
	if err := mountCgroups(filepath.Join(root, cgroupRoot)); err != nil {
		return err
	}
	if err := m.writeFiles(root); err != nil {
		return err
	}
	return pivot(root)
}

// pivot makes root the root, and forgets the machine's.
func pivot(root string) error {
	old := filepath.Join(root, ".machine")
	if err := os.Mkdir(old, 0o700); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.PivotRoot(root, old); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Unmount("/.machine", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the machine's root: %w", err)
	}
	// kubelet's and containerd's mounts have to reach pods that ask for that.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts: %w", err)
	}
	return os.Remove("/.machine")
}

// mount with the mount point made.
func mount(source, target, fstype string, flags uintptr, options string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	if err := unix.Mount(source, target, fstype, flags, options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", fstype, target, err)
	}
	return nil
}

func (b bind) mount(root string) error {
	target := filepath.Join(root, b.to)
	st, err := os.Lstat(b.from)
	switch {
	case errors.Is(err, fs.ErrNotExist) && b.optional:
		return nil
	case err != nil:
		return fmt.Errorf("bind: %w", err)
	case st.Mode()&fs.ModeSymlink != 0 && b.optional:
		to, err := os.Readlink(b.from)
		if err == nil {
			err = os.Symlink(to, target)
		}
		if err != nil {
			return fmt.Errorf("copy link: %w", err)
		}
		return nil
	case !st.IsDir():
		if err := writeFile(target, ""); err != nil {
			return err
		}
	default:
		if err := os.MkdirAll(target, 0o755); err != nil {
			return fmt.Errorf("make mount point: %w", err)
		}
	}
	if err := unix.Mount(b.from, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", b.from, target, err)
	}
	if b.writable {
		return nil
	}
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", target, err)
	}
	return nil
}

// writeFiles writes the node's own /etc, and makes folders that programs expect.
func (m *machine) writeFiles(root string) error {
	hosts := "127.0.0.1 localhost\n::1 localhost\n"
	for _, n := range m.all {
		for _, a := range n.Addrs {
			hosts += a.String() + " " + n.Name + "\n"
		}
	}
	for path, text := range map[string]string{
		"/etc/passwd":        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
		"/etc/group":         "root:x:0:\nnogroup:x:65534:\n",
		"/etc/nsswitch.conf": "hosts: files dns\n",
		"/etc/hostname":      m.Name + "\n",
		"/etc/hosts":         hosts,
		// Nothing: there is no world, and pods that inherit it must not ask the
		// cluster's DNS, which is one of them.
		"/etc/resolv.conf": "",
		"/etc/machine-id":  fmt.Sprintf("%x\n", sha256.Sum256([]byte(string(m.dir)+m.Name)))[:32] + "\n",
	} {
		if err := writeFile(filepath.Join(root, path), text); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/root", "/mnt", "/home", "/srv", "/opt/cni/bin", "/etc/cni/net.d", "/etc/netio/manifests", "/run/lock", "/var/lib", "/var/tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	for path, to := range map[string]string{
		// What reads it in /var/run is older than /run.
		"/var/run": "../run",
		// The plugin that netio-cni's network has after it.
		"/opt/cni/bin/portmap": program("portmap"),
	} {
		if err := os.Symlink(to, filepath.Join(root, path)); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make link: %w", err)
		}
	}
	return nil
}

func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if err := os.WriteFile(path, []byte(strings.TrimLeft(text, "\n")), 0o644); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return nil
}
