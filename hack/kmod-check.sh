#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The kernel's own static checks on kmod/: checkpatch, sparse, coccicheck, and
# clang as another compiler. Runs every one of them, then fails if one did.
#
#   hack/kmod-check.sh [checkpatch | sparse | coccicheck | clang]...
set -uo pipefail
cd "$(dirname "$0")/.." || exit
# shellcheck source=hack/kernels-env.sh
. hack/kernels-env.sh

source=${KMOD:-kmod}
tree=$kernels/src/linux-source-6.1
out=$PWD/build/kmod
failed=()

check() {
	say "$1"
	"$1" || failed+=("$1")
}

# none: fails, and shows its input, unless that is empty.
none() {
	local found
	found=$(cat)
	[ -z "$found" ] || {
		echo "$found"
		return 1
	}
}

# copy NAME: of the sources, for a check that leaves files; prints where.
copy() {
	rm -rf "$out/check-$1"
	mkdir -p "$out"
	cp -rp "$source" "$out/check-$1"
	echo "$out/check-$1"
}

# ours DIR: lines about files in DIR, with the names that these have in the tree.
ours() { grep -E "$1/.*: *(warning|error|WARNING|ERROR)?" | grep -iE 'warning|error|[0-9]+-[0-9]+: ' | sed "s|$1/|$source/|g" || true; }

# patch_check IGNORE: of the files that the input names. What checks patches for
# one kernel does not know of a module for many, whose compat header asks for
# the version and fills in macros with names of members; and gcc wants more
# parentheses than it does.
patch_check() {
	xargs -r perl "$tree/scripts/checkpatch.pl" --no-tree --strict --terse --show-types \
		--no-summary --ignore "LINUX_VERSION_CODE,CONSTANT_COMPARISON$1" --file
}

checkpatch() {
	{
		find "$source" -name '*.[ch]' ! -path '*/uapi/*' | sort | patch_check ,MACRO_ARG_PRECEDENCE,UNNECESSARY_PARENTHESES
		# BIT() is not there in user space, and comments stand behind fields.
		find "$source" -path '*/uapi/*.h' | sort | patch_check ,BIT_MACRO,BLOCK_COMMENT_STYLE
	} | none
}

sparse() {
	local dir
	dir=$(copy sparse)
	make -C "$(about 6.1 kdir)" "M=$dir" "CC=$(about 6.1 cc)" CONFIG_DEBUG_INFO_BTF_MODULES= C=2 \
		"CHECK=$(command -v sparse)" modules >"$dir.log" 2>&1 || {
		cat "$dir.log"
		return 1
	}
	ours "$dir" <"$dir.log" | none
}

# Not make coccicheck: that ends at the first script that an older spatch does
# not understand.
coccicheck() {
	local script dir options
	dir=$(copy coccicheck)
	find "$tree/scripts/coccinelle" -name '*.cocci' | sort | while read -r script; do
		grep -q '^virtual report' "$script" || continue
		read -ra options <<<"$(sed -n 's|^// Options: ||p' "$script" | xargs)"
		spatch -D report --no-show-diff --very-quiet "${options[@]}" --sp-file "$script" --dir "$dir" 2>/dev/null
	done | ours "$dir" | none
}

# clang_kernel: prepares a kernel tree for clang, with the settings that Debian
# builds with; the one of the packages is for gcc. Prints where.
clang_kernel() {
	local dir=$kernels/clang-6.1
	if [ ! -e "$dir/.complete" ]; then
		rm -rf "$dir"
		mkdir -p "$dir"
		cp "$(about 6.1 kdir)/.config" "$dir/.config"
		{
			make -C "$tree" "O=$dir" LLVM=1 olddefconfig
			make -C "$tree" "O=$dir" LLVM=1 "-j$(nproc)" modules_prepare
		} >"$dir.log" 2>&1 || {
			tail -n 20 "$dir.log" >&2
			return 1
		}
		cp "$(about 6.1 kdir)/Module.symvers" "$dir/"
		: >"$dir/.complete"
	fi
	echo "$dir"
}

clang() {
	local dir kernel
	dir=$(copy clang)
	kernel=$(clang_kernel) || return
	if ! make -C "$kernel" "M=$dir" LLVM=1 W=1 KCFLAGS=-Werror CONFIG_DEBUG_INFO_BTF_MODULES= \
		"-j$(nproc)" modules >"$dir.log" 2>&1; then
		cat "$dir.log"
		return 1
	fi
	{ grep -iE 'warning:|error:' "$dir.log" || true; } | none
}

hack/kernels.sh 6.1 >/dev/null && hack/kernels.sh --static && hack/kernels.sh --source linux-source-6.1 || exit
[ $# -gt 0 ] || set -- checkpatch sparse coccicheck clang
for name in "$@"; do
	case $name in
	checkpatch | sparse | coccicheck | clang) check "$name" ;;
	*) die "there is no check $name" ;;
	esac
done
[ ${#failed[@]} = 0 ] || die "FAIL: ${failed[*]}"
say ok
