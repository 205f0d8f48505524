#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The tests of test/vm, in real kernels. Fetches kernels that are not there.
#
#   hack/test-vm.sh some         6.1, and another one, chosen anew each time; NICs in 6.1 alone
#   hack/test-vm.sh all          every series, and the debug kernels that were compiled
#   hack/test-vm.sh SERIES...
#
# RUN is an expression for the names of the tests, TESTS one for those of the
# conformance suite, which run in the machine: TESTS=Conformance/Lanes
# HOSTILE is how long a hostile process is on the device, KILLS how often the owner is
# killed under load, CYCLES how often the module is loaded and unloaded:
#
#   HOSTILE=10m KILLS=50 CYCLES=50 RUN='TestSoak|TestUnload' hack/test-vm.sh kcsan
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/kernels-env.sh
. hack/kernels-env.sh

options=()
fetched=$(hack/kernels.sh --names)
case ${*:-some} in
some)
	series=(6.1)
	options=(-brief)
	# A mirror may have dropped the suite that a kernel is from.
	other=$(grep -vx 6.1 <<<"$fetched" | shuf -n 1)
	if hack/kernels.sh "$other"; then
		series+=("$other")
	else
		say "WARNING: $other cannot be had; testing in 6.1 alone"
	fi
	;;
all)
	read -ra series <<<"$(xargs <<<"$fetched")"
	for name in $debug_series; do
		! have "$name" || series+=("$name")
	done
	;;
*) series=("$@") ;;
esac

fetch=()
for name in "${series[@]}"; do
	! grep -qx "$name" <<<"$fetched" || fetch+=("$name")
done
[ ${#fetch[@]} = 0 ] || hack/kernels.sh "${fetch[@]}"
say "kernels: ${series[*]}"
exec go test -v -timeout 60m -run "${RUN:-.}" ./test/vm/... -args -series "$(IFS=, && echo "${series[*]}")" -tests "${TESTS:-}" "${options[@]}" \
	${HOSTILE:+-hostile "$HOSTILE"} ${KILLS:+-kills "$KILLS"} ${CYCLES:+-cycles "$CYCLES"}
