#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# NetIO's life in a real cluster that is up for it alone: installed, upgraded, killed at
# random and taken back to the version before under load, uninstalled without a trace.
# The arguments are those of netio-cluster up, and after -- those of the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

up=(--nodes 2)
while [ $# -gt 0 ]; do
	[ "$1" != -- ] || { shift; break; }
	up+=("$1")
	shift
done
tool=(build/cluster/bin/netio-cluster)
make --no-print-directory build cluster-tool
"${tool[@]}" check
trap '"${tool[@]}" down' EXIT
"${tool[@]}" up --bare "${up[@]}"
make --no-print-directory cluster-e2e FOCUS='^TestLifecycle$' E2EFLAGS="$*"
