#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds what test/vmbench needs, and runs it with the arguments given. Fetches the
# kernel if it is not there. bin/ is built before.
set -euo pipefail
cd "$(dirname "$0")/.."

series=6.1
dir=build/bench-vm
hack/kernels.sh "$series"
hack/kmod.sh build "$series"
mkdir -p "$dir"
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false
go build -o "$dir/vmbench" ./test/vmbench
go build -o "$dir/init" ./test/vm/guest
# At addresses that no other program has, so that a profile can tell them apart.
go build -ldflags '-T 0x10000000' -o "$dir/guest" ./test/vmbench/guest
gcc -O2 -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden -o "$dir/count.so" test/vmbench/plugin/count.c
exec "$dir/vmbench" -build "$dir" -bin bin -series "$series" "$@"
