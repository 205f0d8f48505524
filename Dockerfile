# SPDX-License-Identifier: Apache-2.0
# NetIO's images. All binaries are static, so there is nothing else in them but where
# something has to be compiled.
#
#   docker build --target netio-agent --build-arg VERSION="$(git describe --tags --always)" -t netio-agent .
#   docker build --target netio-operator ...
#   docker build --target netio-kmod ...           # the kernel module's source and toolchain
#
# `make images` makes the same without a container engine.

# As in go.mod.
ARG GO_VERSION=1.26.8
FROM --platform=$BUILDPLATFORM golang:${GO_VERSION}-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=unknown
ENV CGO_ENABLED=0 GOFLAGS=-buildvcs=false
RUN GOOS=${TARGETOS} GOARCH=${TARGETARCH} go build -trimpath \
    -ldflags "-s -w -X netio.dev/netio/pkg/version.version=${VERSION}" \
    -o /out/ ./cmd/netio-agent ./cmd/netio-cni ./cmd/netioctl ./cmd/netio-operator

FROM scratch AS netio-operator
ARG VERSION=unknown
LABEL org.opencontainers.image.title="NetIO operator" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/netio-operator /usr/local/bin/
COPY LICENSE /licenses/LICENSE
ENV PATH=/usr/local/bin
USER 65532:65532
ENTRYPOINT ["netio-operator"]

# The kernel module's source, and what builds it on nodes that have headers alone. The
# programs in headers (modpost, objtool) want these libraries.
FROM debian:bookworm-slim AS netio-kmod
ARG VERSION=unknown
LABEL org.opencontainers.image.title="NetIO kernel module: source and toolchain" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-2.0-only"
RUN apt-get update && \
    apt-get install -y --no-install-recommends make gcc binutils libc6-dev libelf1 zlib1g gawk kmod && \
    rm -rf /var/lib/apt/lists/*
COPY --from=build /out/netio-agent /usr/local/bin/
COPY kmod /usr/local/kmod
COPY LICENSE LICENSES/GPL-2.0.txt /licenses/
ENTRYPOINT ["netio-agent"]

# Agent and forwarder (netio-agent), the CNI plugin that the agent installs, netioctl.
FROM scratch AS netio-agent
ARG VERSION=unknown
LABEL org.opencontainers.image.title="NetIO agent" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-2.0-only"
COPY --from=build /out/netio-agent /out/netio-cni /out/netioctl /usr/local/bin/
# The kernel module's source, for nodes with headers and a toolchain of their own.
COPY kmod /usr/local/kmod
COPY LICENSE LICENSES/GPL-2.0.txt /licenses/
ENV PATH=/usr/local/bin
# It makes interfaces in pods' network namespaces, which only root may.
USER 0:0
ENTRYPOINT ["netio-agent"]
