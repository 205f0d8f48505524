// SPDX-License-Identifier: Apache-2.0

// Package version tells which version of NetIO a program is of.
package version

import "runtime/debug"

// version is set by the linker (see the Makefile).
var version string

// String is the version: of the release or commit it was built from, or "devel"
// if the build did not say.
func String() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}
