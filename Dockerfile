# SPDX-License-Identifier: Apache-2.0
# The node's image: agent and forwarder (netio-agent), the CNI plugin that the
# agent installs, and netioctl. All binaries are static, so there is nothing
# else in it.
#
#   docker build --build-arg VERSION="$(git describe --tags --always)" -t netio-agent .

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
    -o /out/ ./cmd/netio-agent ./cmd/netio-cni ./cmd/netioctl

FROM scratch
LABEL org.opencontainers.image.title="NetIO agent" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/ /usr/local/bin/
COPY LICENSE /licenses/LICENSE
ENV PATH=/usr/local/bin
# It makes interfaces in pods' network namespaces, which only root may.
USER 0:0
ENTRYPOINT ["netio-agent"]
