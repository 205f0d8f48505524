#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A part of the tests in a real cluster, of two nodes, which is up for them alone.
# On a machine that cannot hold a cluster: why, and no error.
set -euo pipefail
cd "$(dirname "$0")/.."

tool=(build/cluster/bin/netio-cluster)
make --no-print-directory build cluster-tool
if ! "${tool[@]}" check; then
	echo "test-cluster.sh: left out, for what is said above"
	exit 0
fi
trap '"${tool[@]}" down' EXIT
"${tool[@]}" up --nodes 2
make --no-print-directory cluster-e2e FOCUS='^Test(NodesAreReady|Reach|Kills|APIServerAway|Pool|Policy|NetworkPolicy|ServiceFromOutside|Netioctl|Connectivity|ConnectivityByHelm|KernelModule|Upgrade)$'
make --no-print-directory cluster-e2e FOCUS='^TestUninstall$' E2EFLAGS=-uninstall
