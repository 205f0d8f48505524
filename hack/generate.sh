#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Regenerate what is generated: Go code of the .proto files, deep-copy methods
# and CRDs of api/, the chart's copies of CRDs and roles, and its schema. With --check: tell whether that would change anything,
# and change nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v protoc >/dev/null || {
	echo "generate.sh: protoc is missing; run hack/bootstrap.sh" >&2
	exit 1
}

tools=$PWD/build/tools
mkdir -p "$tools"
GOBIN=$tools go install google.golang.org/protobuf/cmd/protoc-gen-go \
	google.golang.org/grpc/cmd/protoc-gen-go-grpc \
	sigs.k8s.io/controller-tools/cmd/controller-gen

# generate, in the working directory.
generate() {
	find pkg -name '*.proto' | sort | while read -r proto; do
		# The flag: protoc before 3.15 knows optional fields only so.
		PATH=$tools:$PATH protoc -I. --experimental_allow_proto3_optional --go_out=. --go_opt=paths=source_relative \
			--go-grpc_out=. --go-grpc_opt=paths=source_relative "$proto"
	done
	if [ -d api/v1alpha1 ]; then
		rm -f config/crd/*.yaml
		"$tools/controller-gen" object:headerFile=hack/go-header.txt paths=./api/... crd:headerFile=hack/crd-header.txt paths=./api/... output:crd:dir=config/crd
	fi
	# A chart holds all that it installs.
	rm -rf charts/netio/crds charts/netio/rbac
	mkdir charts/netio/crds charts/netio/rbac
	cp config/crd/*.yaml charts/netio/crds/
	cp config/rbac/*.yaml charts/netio/rbac/
	go run ./hack/chart
}

case ${1-} in
'') generate ;;
--check)
	copies=$(mktemp -d)
	trap 'rm -rf "$copies"' EXIT
	mkdir "$copies/tree"
	git ls-files -co --exclude-standard -- go.mod go.sum hack api charts config pkg |
		while read -r file; do [ ! -f "$file" ] || echo "$file"; done |
		xargs -rd '\n' cp --parents -t "$copies/tree"
	cp -r "$copies/tree" "$copies/generated"
	(cd "$copies/generated" && generate)
	# Another release of protoc writes its number into a comment: no difference.
	(cd "$copies" && diff -ruN -I '^// .*protoc  *v[0-9]' tree generated) || {
		echo "generate.sh: generated files are out of step; run make generate and commit" >&2
		exit 1
	}
	;;
*)
	echo "usage: generate.sh [--check]" >&2
	exit 2
	;;
esac
