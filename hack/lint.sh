#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All static checks. Runs every one of them, then fails if one did.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

failed=()

# check NAME COMMAND...: the command prints what is wrong and fails.
check() {
	local name=$1
	shift
	echo "lint: $name"
	"$@" || failed+=("$name")
}

# files PATTERN...: of the tree as it would be committed, existing ones.
files() {
	git ls-files -co --exclude-standard -- "$@" | while read -r file; do
		[ ! -f "$file" ] || echo "$file"
	done
}

# none MESSAGE: fails, and shows its input, unless that is empty.
none() {
	local found
	found=$(cat)
	[ -n "$found" ] || return 0
	echo "$found"
	echo "^ $1"
	return 1
}

# found EXPRESSION: lines of the input that match; none is no failure.
found() { grep -nIE "$1" || [ $? = 1 ]; }

formatting() { files '*.go' | xargs -r gofmt -l | none "run gofmt -w on these files"; }

shell_scripts() {
	files | while read -r file; do
		case $(head -c 64 "$file" | head -n 1 | tr -d '\0') in
		'#!'*sh | '#!'*sh' '*) echo "$file" ;;
		esac
	done
}

shell() { shell_scripts | xargs -r shellcheck; }

# What needs a licence line, and which: kmod/ is part of the kernel.
licences() {
	files '*.go' '*.proto' '*.c' '*.h' '*.sh' '*.yaml' '*.yml' .ci/run Makefile '*/Makefile' '*/Kbuild' Dockerfile | while read -r file; do
		case $file in
		*/testdata/*) continue ;;
		kmod/include/uapi/*) want='GPL-2.0 WITH Linux-syscall-note' ;;
		kmod/*) want='GPL-2.0' ;;
		*) want='Apache-2.0' ;;
		esac
		head -n 3 "$file" | sed 's,[[:space:]]*\*/$,,' | grep -q "SPDX-License-Identifier: $want\$" || echo "$file: $want"
	done | none "the first lines must have SPDX-License-Identifier with this licence"
}

# The virtual router serves a plain Linux box: no Kubernetes in it, not even
# through another package.
dataplane_imports() {
	[ -d pkg/dataplane ] || return 0
	local deps
	deps=$(go list -deps ./pkg/dataplane/...) || return 1
	found '^(k8s\.io|sigs\.k8s\.io)/' <<<"$deps" | none "pkg/dataplane must not depend on Kubernetes packages"
}

# What was put off, and what is true on one machine only. (The brackets keep
# this file from finding itself.)
words() {
	local hosts='(proxy|sum)[.]golang[.]org|(deb|security)[.]debian[.]org|archive[.]ubuntu[.]com|registry[.]npmjs[.]org'
	local paths='(^|[^[:alnum:]_.-])/([w]ork|[h]ome|[t]mp)/'
	local later='\b(TO[D]O|FIX[M]E|X[X]X|HA[C]K)\b'
	files ':!LICENSE' ':!LICENSES' ':!go.sum' | while read -r file; do
		found "$hosts|$paths|$later" <"$file" | sed "s|^|$file: |"
	done | none "no host names of registries, paths of a machine, or work put off"
}

check "gofmt" formatting
check "go vet" go vet ./...
check "staticcheck" go tool staticcheck ./...
check "shellcheck" shell
check "SPDX lines" licences
check "pkg/dataplane without Kubernetes" dataplane_imports
check "words" words

if [ ${#failed[@]} -ne 0 ]; then
	printf 'lint: FAIL: %s\n' "${failed[@]}" >&2
	exit 1
fi
echo "lint: ok"
