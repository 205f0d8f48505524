#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A kind cluster with NetIO as its network, for machines that have Docker. What it
# needs besides: kind, kubectl, helm. `make cluster-up` needs none of these.
#
#   hack/kind.sh up     a cluster called netio, with images built here; or NetIO as it is now in one that is up
#   hack/kind.sh down
set -euo pipefail
cd "$(dirname "$0")/.."

readonly NAME=${KIND_CLUSTER:-netio}

need() {
	local missing=()
	for program in "$@"; do
		command -v "$program" >/dev/null || missing+=("$program")
	done
	[ ${#missing[@]} = 0 ] || {
		echo "kind.sh: install ${missing[*]}; make cluster-up brings up a real cluster without them" >&2
		exit 1
	}
}

case ${1-} in
up)
	need docker kind kubectl helm
	tag=$(git describe --tags --always --dirty)-$(date +%s)
	for image in netio-agent netio-operator; do
		docker build --target "$image" --build-arg VERSION="$tag" -t "netio.dev/$image:$tag" .
	done
	kind get clusters 2>/dev/null | grep -qx "$NAME" || kind create cluster --name "$NAME" --config test/kind/kind.yaml
	for image in netio-agent netio-operator; do
		kind load docker-image --name "$NAME" "netio.dev/$image:$tag"
	done
	helm upgrade --install netio charts/netio --kube-context "kind-$NAME" --namespace netio-system --create-namespace \
		--set image.tag="$tag" --set apiServer.host="$NAME-control-plane" --set apiServer.port=6443 \
		--set network.kubeProxyReplacement=true --set network.device=Soft # the kernel is this machine's
	kubectl --context "kind-$NAME" wait --for=condition=Available netiocluster/netio --timeout=3m
	kubectl --context "kind-$NAME" wait --for=condition=Ready node --all --timeout=3m
	;;
down)
	need kind
	kind delete cluster --name "$NAME"
	;;
*)
	echo "usage: kind.sh up | down" >&2
	exit 2
	;;
esac
