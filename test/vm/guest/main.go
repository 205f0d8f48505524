// SPDX-License-Identifier: Apache-2.0

// Command guest is the init process of the virtual machines of test/vm. It
// mounts what a Linux system has mounted, loads the kernel's modules that the
// image names, and then does what the host asks for on the control line.
package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest is the init process of a virtual machine; see test/vm")
		os.Exit(2)
	}
	err := setUp()
	if err == nil {
		err = serve()
	}
	if err != nil {
		kernelLog(3, "init: %v", err)
	}
	powerOff()
}

// kernelLog writes to the kernel's log, whose order with what the kernel says
// is then seen.
func kernelLog(level int, format string, args ...any) {
	f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "<%d>netio-test: "+format, append([]any{level}, args...)...)
}

func powerOff() {
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	// The kernel panics when init ends, and the host would take that for a
	// failure of what it tests.
	for {
		time.Sleep(time.Hour)
	}
}
