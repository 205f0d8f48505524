#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What `make test` does: every step, also after one failed, then a summary of
# results and times. Logs of the steps are in build/test/.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

logs=build/test
mkdir -p "$logs"
summary=()
failed=()
status=0

# step NAME COMMAND...
step() {
	local name=$1 began=$SECONDS result=ok
	shift
	printf '\n==> %s\n' "$name"
	"$@" 2>&1 | tee "$logs/$name.log" || {
		result=FAIL
		status=1
		failed+=("$name")
	}
	summary+=("$(printf '%-16s %5d s  %s' "$name" $((SECONDS - began)) "$result")")
	[ $result = ok ]
}

finish() {
	local log
	for log in cluster go-test vm; do
		[ -e "$logs/$log.log" ] || continue
		printf '\n==> %s, its closing lines\n' "$log"
		grep -E '^(ok|FAIL|---|panic:)' "$logs/$log.log"
	done
	# Tests say why they fail before they say that they did; in a virtual machine's
	# output both are indented.
	for log in "${failed[@]}"; do
		printf '\n==> %s, what failed\n' "$log"
		grep -E -B 20 -- '--- FAIL: |^panic: |DATA RACE' "$logs/$log.log" | tail -n 200 || tail -n 40 "$logs/$log.log"
	done
	printf '\n==> make test\n'
	printf '%s\n' "${summary[@]}" "$(printf '%-16s %5d s' total $SECONDS)"
	exit $status
}

rm -f "$logs"/*.log
step bootstrap hack/bootstrap.sh || finish
step build make --no-print-directory build
step check-generated make --no-print-directory check-generated
step lint make --no-print-directory lint
step cluster make --no-print-directory test-cluster
step go-test make --no-print-directory go-test
step demo make --no-print-directory demo
step vm make --no-print-directory test-vm
finish
