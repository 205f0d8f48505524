#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by kernels.sh, kmod.sh and debug-kernels.sh: where kernels are kept,
# and how something is run with the tools that a kernel was built with.
#
# They are kept outside of the tree, because a fresh clone should not fetch
# half a gigabyte and compile kernels for half an hour again.

kernels=${NETIO_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/netio}/kernels

# Series that are not names of a kernel to fetch, but kernels that
# debug-kernels.sh compiles.
# shellcheck disable=SC2034 # used by those who source this
readonly debug_series='uml-debug kasan kcsan'

say() { echo "$(basename "$0" .sh): $*"; }
die() {
	say "$*" >&2
	exit 1
}

# about SERIES FIELD: what kernels.sh wrote down about a kernel. Fields: series
# release kdir image modules cc tools arch.
about() { sed -n "s/^$2=//p" "$kernels/series/$1/about" 2>/dev/null || true; }

have() { [ -s "$kernels/series/$1/about" ]; }

# with_tools TOOLS COMMAND...: with the programs of the folder TOOLS in place of
# this machine's; an empty TOOLS means those of this machine. The tree and
# the kernels are seen under the same paths.
with_tools() {
	local tools=$1
	shift
	if [ -z "$tools" ]; then
		"$@"
		return
	fi
	mkdir -p "$tools$PWD" "$tools$kernels"
	# In a mount namespace of its own: nothing stays mounted.
	# shellcheck disable=SC2016 # expanded by the inner shell
	unshare --mount --propagation private bash -c '
		set -e
		tools=$1 here=$2 kernels=$3
		shift 3
		mount --bind "$here" "$tools$here"
		mount --bind "$kernels" "$tools$kernels"
		mount -t proc proc "$tools/proc"
		mount --bind /dev "$tools/dev"
		exec chroot "$tools" /usr/bin/env -C "$here" PATH=/usr/bin:/usr/sbin LC_ALL=C "$@"
	' - "$tools" "$PWD" "$kernels" "$@"
}
