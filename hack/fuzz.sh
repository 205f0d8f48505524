#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Run every fuzz target of the tree, one after another.
#
#   hack/fuzz.sh TIME [MATCH]    TIME as in go test -fuzztime; MATCH: only
#                                targets whose "package name" matches it
set -uo pipefail
cd "$(dirname "$0")/.." || exit

time=${1:?usage: hack/fuzz.sh TIME [MATCH]}
only=${2:-.}

targets=$(git ls-files -co --exclude-standard '*_test.go' |
	while read -r file; do
		sed -n "s,^func \(Fuzz[[:alnum:]_]*\)(.*,./$(dirname "$file") \1,p" "$file"
	done | sort | grep -E -- "$only")
[ -n "$targets" ] || {
	echo "fuzz: no target matches $only" >&2
	exit 1
}

failed=0
while read -r package target; do
	echo "fuzz: $package $target, $time"
	# Building with the fuzzer's instrumentation is not part of TIME.
	# Minimizing each interesting input by the default minute starves the rest.
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 200x "$package" </dev/null || failed=$((failed + 1))
done <<<"$targets"

echo "fuzz: $(wc -l <<<"$targets") targets, $failed failed"
[ $failed = 0 ]
