# SPDX-License-Identifier: Apache-2.0
# NetIO. `make help` lists the targets.

# One set of build flags for every go command, so that all of them share one
# build cache. The race detector alone needs cgo. build/go is a toolchain that
# hack/bootstrap.sh fetched, if it had to.
export CGO_ENABLED := 0
export GOFLAGS := -buildvcs=false
export PATH := $(CURDIR)/build/go/bin:$(PATH):/usr/sbin:/sbin

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
DEVICE ?= soft
FUZZTIME ?= 10s
FUZZ ?= .
PODS ?= 1000
SERIES ?= 6.1
NODES ?= 3
FOCUS ?= .
SKIP ?=
PROCS ?= 1
RATE ?= 1000
BENCHFLAGS ?=
PREFIX ?= /usr/local
CNI_BIN_DIR ?= /opt/cni/bin

commands := $(notdir $(wildcard cmd/*))

.DEFAULT_GOAL := help
.PHONY: help
help: ## list the targets
	@echo 'make demo and make test set up all they need; the others expect hack/bootstrap.sh to have run.'
	@echo
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | \
		while IFS="$$(printf '\t')" read -r target text; do printf '  %-22s %s\n' "$$target" "$$text"; done

.PHONY: demo
demo: ## see NetIO work on real traffic, in a minute; DEVICE=kernel where netio.ko is loaded (root)
	@hack/bootstrap.sh
	@$(MAKE) --no-print-directory build
	@bin/netio-demo -bin bin -device $(DEVICE)

.PHONY: test
test: ## everything that CI runs: generated files, lint, go test -race, demo, the module in real kernels (root)
	@hack/test.sh

.PHONY: bootstrap
bootstrap: ## install what building and testing needs (Debian or Ubuntu, root)
	@hack/bootstrap.sh

# go build is incremental itself: always run it.
.PHONY: build
build: ## static binaries, into bin/
	go build -ldflags '-X netio.dev/netio/pkg/version.version=$(VERSION)' -o bin/ $(addprefix ./cmd/,$(commands))
	go build -o bin/netio-demo ./test/demo
	go build -o bin/netio-bench ./test/bench

.PHONY: go-test
go-test: ## go test -race of all packages (root: some make network namespaces)
	CGO_ENABLED=1 go test -race -timeout 30m ./...

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, shellcheck, licences, imports, words
	@hack/lint.sh

.PHONY: generate
generate: ## regenerate protobuf code, deep-copy methods and CRDs
	hack/generate.sh

.PHONY: check-generated
check-generated: ## fail if make generate would change something
	hack/generate.sh --check

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (10s) each; FUZZ=expression narrows them
	@hack/fuzz.sh '$(FUZZTIME)' '$(FUZZ)'

.PHONY: churn
churn: ## add and remove PODS (1000) pods while processes are killed, count what is left (root)
	CGO_ENABLED=1 go test -race -v -timeout 30m ./test/churn -args -pods $(PODS)

.PHONY: vm-bootstrap
vm-bootstrap: ## install QEMU, fetch the kernels that netio.ko is built for and tested in (root)
	@hack/kernels.sh

.PHONY: vm-kernels-debug
vm-kernels-debug: ## compile kernels that find mistakes: KASAN, lockdep, kmemleak; KCSAN (root)
	@hack/debug-kernels.sh

# kmod is a folder too.
.PHONY: kmod
kmod: ## netio.ko for the kernel series SERIES (6.1), into build/kmod/SERIES
	@hack/kmod.sh build $(SERIES)

.PHONY: kmod-all
kmod-all: ## netio.ko for every kernel series that is there
	@hack/kmod.sh build all

.PHONY: kmod-check
kmod-check: ## sparse, checkpatch, coccicheck and clang on kmod/ (root)
	@hack/kmod-check.sh

.PHONY: test-vm
test-vm: ## netio.ko in real kernels: 6.1 and one chosen anew, or SERIES='...'; RUN=expression HOSTILE=10m KILLS=50 CYCLES=50 (root)
	@hack/test-vm.sh $(if $(filter command line environment,$(origin SERIES)),$(SERIES),some)

.PHONY: test-vm-all
test-vm-all: ## the same in all kernels (root)
	@hack/test-vm.sh all

.PHONY: cluster-up
cluster-up: ## bring up a real Kubernetes cluster of NODES (3) with NetIO, on this machine alone (root); UPFLAGS=--kube-proxy or --tunnel or --ip-family=ipv6; see docs/cluster.md
	@hack/bootstrap.sh
	@$(MAKE) --no-print-directory build cluster-tool
	@build/cluster/bin/netio-cluster up --nodes '$(NODES)' $(UPFLAGS)

.PHONY: cluster-upgrade
cluster-upgrade: build cluster-tool ## give the cluster NetIO as it is now, by helm upgrade (root)
	@build/cluster/bin/netio-cluster upgrade

.PHONY: cluster-down
cluster-down: cluster-tool ## end the cluster; what was built for it and its logs stay in build/cluster (root)
	@build/cluster/bin/netio-cluster down

.PHONY: kind-up
kind-up: ## the same with kind, for machines that have Docker, kind, kubectl and helm
	@hack/kind.sh up

.PHONY: kind-down
kind-down: ## end it
	@hack/kind.sh down

.PHONY: cluster-e2e
cluster-e2e: ## test NetIO in the cluster that is up; FOCUS=expression narrows it (root)
	@go test -count 1 -v -timeout 40m -run '$(FOCUS)' ./test/kind/e2e -args -cluster '$(CURDIR)/build/cluster' $(E2EFLAGS)

.PHONY: cluster-e2e-kubernetes
cluster-e2e-kubernetes: cluster-tool ## run the Kubernetes end-to-end suite's network specs in it; FOCUS and SKIP narrow it, PROCS=2 at a time (root)
	@build/cluster/bin/netio-cluster suite $(if $(filter-out .,$(FOCUS)),--focus '$(FOCUS)') --skip '$(SKIP)' --procs '$(PROCS)'

.PHONY: cluster-e2e-all
cluster-e2e-all: ## both, one after the other, with the tests of 300 pods, 1,000 policies and 10,000 remote pods (root)
	@failed=0; for target in cluster-e2e cluster-e2e-kubernetes; do \
		$(MAKE) --no-print-directory $$target FOCUS=. E2EFLAGS=-scale || failed=1; \
	done; exit $$failed

.PHONY: cluster-helm-e2e
cluster-helm-e2e: ## helm install, upgrade, kills, downgrade and uninstall, in a cluster of two nodes that is up for it alone (root); RATE=1000 connections a second
	@hack/bootstrap.sh
	@hack/helm-e2e.sh $(UPFLAGS) -- -rate $(RATE)

.PHONY: test-cluster
test-cluster: ## a part of cluster-e2e in a cluster of two nodes, which is up for it alone (root)
	@hack/test-cluster.sh

.PHONY: cluster-tool
cluster-tool:
	@go build -o build/cluster/bin/netio-cluster ./test/kind

.PHONY: bench
bench: build ## NetIO beside Linux's own paths, in one run (root); BENCHFLAGS='-o json'
	@bin/netio-bench -bin bin $(BENCHFLAGS)

.PHONY: bench-vm
bench-vm: build ## NetIO on netio.ko, in a real kernel, beside Linux's own paths, TUN and AF_XDP (root); BENCHFLAGS='-o json'
	@hack/bench-vm.sh $(BENCHFLAGS)

.PHONY: bench-go
bench-go: ## the forwarder alone: ns/packet and allocations
	go test -run '^$$' -bench . -benchmem ./pkg/dataplane/...

.PHONY: images
images: ## container images of NetIO, as archives in build/images, without a container engine
	@mkdir -p build/images/bin
	go build -trimpath -ldflags '-s -w -X netio.dev/netio/pkg/version.version=$(VERSION)' -o build/images/bin/ $(addprefix ./cmd/,$(commands))
	@go run ./hack/images -bin build/images/bin -version '$(VERSION)' -revision "$$(git rev-parse HEAD 2>/dev/null)"

.PHONY: install
install: build ## to PREFIX/bin and CNI_BIN_DIR, below DESTDIR
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(CNI_BIN_DIR)'
	install -m 0755 bin/netio-agent bin/netio-operator bin/netioctl '$(DESTDIR)$(PREFIX)/bin/'
	ln -sf netioctl '$(DESTDIR)$(PREFIX)/bin/kubectl-netio'
	install -m 0755 bin/netio-cni '$(DESTDIR)$(CNI_BIN_DIR)/'

.PHONY: clean
clean: ## remove what was built here (not Go's caches)
	rm -rf bin build
