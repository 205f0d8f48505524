#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Regenerate what is generated: Go code of the .proto files, deep-copy methods
# and CRDs of api/. With --check: fail if that changes anything.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v protoc >/dev/null || {
	echo "generate.sh: protoc is missing; run hack/bootstrap.sh" >&2
	exit 1
}

before=
[ "${1-}" = --check ] && before=$(git ls-files -co --exclude-standard '*.pb.go' 'zz_generated*' '*/zz_generated*' config/crd | xargs -r sha256sum)

tools=$PWD/build/tools
mkdir -p "$tools"
GOBIN=$tools go install google.golang.org/protobuf/cmd/protoc-gen-go \
	google.golang.org/grpc/cmd/protoc-gen-go-grpc \
	sigs.k8s.io/controller-tools/cmd/controller-gen

git ls-files -co --exclude-standard '*.proto' | while read -r proto; do
	PATH=$tools:$PATH protoc -I. --go_out=. --go_opt=paths=source_relative \
		--go-grpc_out=. --go-grpc_opt=paths=source_relative "$proto"
done

if [ -d api/v1alpha1 ]; then
	"$tools/controller-gen" object paths=./api/... crd:headerFile=hack/crd-header.txt paths=./api/... output:crd:dir=config/crd
fi

if [ "${1-}" = --check ]; then
	after=$(git ls-files -co --exclude-standard '*.pb.go' 'zz_generated*' '*/zz_generated*' config/crd | xargs -r sha256sum)
	if [ "$before" != "$after" ]; then
		echo "generate.sh: generated files are out of step; run make generate and commit" >&2
		diff <(echo "$before") <(echo "$after") >&2 || true
		exit 1
	fi
fi
