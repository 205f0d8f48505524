// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"netio.dev/netio/test/vm/control"
)

// Wire joins the network interfaces of two machines, frame by frame. It has no
// order of starting: frames to a machine that is not there are lost. See NewWire,
// NewTaps, and NewLine.
type Wire struct {
	MAC     string // of the interface
	Options string // for QEMU's virtio-net device, such as "csum=off"

	local, remote string     // sockets
	queues        []*os.File // of a tap, in place of sockets
	line          *os.File   // of NewLine, likewise
}

// NewWire returns the two ends of a wire whose sockets are in dir.
func NewWire(dir string) (a, b Wire) {
	one, other := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	return Wire{MAC: "52:54:00:00:00:0a", local: one, remote: other}, Wire{MAC: "52:54:00:00:00:0b", local: other, remote: one}
}

// A machine's file descriptors. After the monitor's are the queues of its wires.
const (
	controlFD = 3 // the control line
	monitorFD = 4 // QEMU's monitor
)

// commandLine starts a machine. Its standard output is the kernel's console.
func commandLine(c Config, dir, initramfs string) ([]string, error) {
	if c.Series.UML {
		return umlCommand(c, dir, initramfs)
	}
	return qemuCommand(c, initramfs), nil
}

// An emulated CPU is slow, and the more so on a busy host: what a kernel takes
// for a stall there is none.
const patience = "rcupdate.rcu_cpu_stall_timeout=300 watchdog_thresh=60 hung_task_timeout_secs=600"

func qemuCommand(c Config, initramfs string) []string {
	// Warnings are shown from the start (5), the rest from when init runs.
	kernel := []string{
		"console=ttyS0", "loglevel=5", "printk.time=1", "panic=-1", "mitigations=off", "no_timer_check", "tsc=reliable", "nokaslr",
		control.Parameter + "ttyS1", patience, c.Append,
	}
	args := []string{
		"qemu-system-x86_64", "-machine", "q35", "-accel", "tcg",
		// Without the features at which QEMU 7.2 and newer kernels disagree.
		"-cpu", "max,-la57,-cx16",
		"-smp", fmt.Sprint(c.CPUs), "-m", fmt.Sprint(c.Memory),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=control,fd=%d", controlFD), "-serial", "chardev:control",
		"-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", monitorFD), "-mon", "chardev=monitor,mode=control", "-name", "netio,debug-threads=on",
		"-kernel", c.Series.Image, "-initrd", initramfs, "-append", strings.Join(kernel, " "),
	}
	fd := monitorFD
	for i, wire := range c.Wires {
		netdev := fmt.Sprintf("dgram,id=net%d,local.type=unix,local.path=%s,remote.type=unix,remote.path=%s", i, wire.local, wire.remote)
		device := fmt.Sprintf("virtio-net-pci,netdev=net%d,mac=%s", i, wire.MAC)
		if n := len(wire.queues); n > 0 {
			var fds []string
			for range n {
				fd++
				fds = append(fds, fmt.Sprint(fd))
			}
			netdev = fmt.Sprintf("tap,id=net%d,vhost=off,fds=%s", i, strings.Join(fds, ":"))
			// An interrupt for each queue of both directions, configuration and control.
			device += fmt.Sprintf(",mq=on,vectors=%d", 2*n+2)
		}
		if wire.line != nil {
			fd++
			netdev = fmt.Sprintf("stream,id=net%d,server=off,addr.type=fd,addr.str=%d", i, fd)
		}
		if wire.Options != "" {
			device += "," + wire.Options
		}
		args = append(args, "-netdev", netdev, "-device", device)
	}
	return append(args, c.QEMU...)
}

func umlCommand(c Config, dir, initramfs string) ([]string, error) {
	if len(c.Wires) > 0 {
		return nil, errors.New("a User Mode Linux machine has no wires")
	}
	return []string{
		// A kernel that panics aborts, but the first process of a namespace does
		// not die of that: it would do so for ever.
		"/bin/sh", "-c", `"$@"; exit $?`, "sh",
		c.Series.Image, fmt.Sprintf("mem=%dM", c.Memory), "initrd=" + initramfs, "root=/dev/ram0",
		"uml_dir=" + dir, "umid=vm",
		"con=null", "con0=null,fd:1", "ssl=null", "ssl0=fd:3",
		"loglevel=5", "printk.time=1", "panic=-1", control.Parameter + "ttyS0", patience, c.Append,
	}, nil
}
