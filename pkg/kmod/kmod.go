// SPDX-License-Identifier: Apache-2.0

// Package kmod gets the kernel module netio.ko into the running kernel, or says
// in words why it cannot be had there and what would help.
//
//	             Report: what there is            Load, Unload: what is done
//	             ──────────────────────           ──────────────────────────
//	kernel       release, compiler, config   ┐
//	security     secure boot, lockdown,      │    file found ──────┐
//	             enforced signatures         ├──> or built, signed ├─> finit_module
//	module       loaded or built in, ABI,    │    (Build, Sign)    ┘      │
//	             who uses it                 │                            v
//	files        .ko that fit, and why not   │               ABI in sysfs, or out again
//	headers      to build with               ┘
//
// Everything is read through a System, below a root directory, so that
// tests can give it the systems that are not at hand.
//
// What the module must tell of itself is its modinfo fields name, version,
// vermagic and netio_abi, and in sysfs the files version and parameters/abi.
//
// Nothing here is safe for concurrent use but between processes: the kernel
// lets one of two loads win, and builds wait for each other on a lock.
package kmod

import (
	"fmt"
	"strconv"
	"strings"

	"netio.dev/netio/pkg/dataplane/abi"
)

// Name is the module's name.
const Name = "netio"

// DeviceFile is the character device that the loaded module provides.
const DeviceFile = "/dev/netio"

// wantABI is the ABI of this program.
var wantABI = abi.VersionString(abi.Version)

// abiServes tells whether a module with this ABI ("1.0") serves this program: the same
// major version, and no older minor one, as when the device is opened.
func abiServes(version string) bool {
	major, minor, ok := strings.Cut(version, ".")
	if !ok {
		return false
	}
	ma, err := strconv.ParseUint(major, 10, 16)
	if err != nil {
		return false
	}
	mi, err := strconv.ParseUint(minor, 10, 16)
	return err == nil && ma == abi.Major && mi >= abi.Minor
}

// named is the ABI in words.
func named(version string) string {
	if version == "" {
		return "no ABI version"
	}
	return fmt.Sprintf("ABI %s", version)
}
