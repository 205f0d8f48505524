// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	_ "embed"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/test/kind/artifact"
	"netio.dev/netio/test/kind/topology"
)

//go:embed manifests/coredns.yaml
var corednsManifest string

// bringDNS deploys CoreDNS: the first pod of the cluster, so that its being ready
// shows that pods reach services.
func (u *up) bringDNS(ctx context.Context) error {
	if err := u.create(ctx, "CoreDNS's manifest", coredns(u.families)); err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		d, err := u.client.AppsV1().Deployments("kube-system").Get(ctx, "coredns", metav1.GetOptions{})
		return err == nil && d.Status.AvailableReplicas > 0, nil
	})
}

func coredns(of topology.Families) []byte {
	return []byte(strings.NewReplacer("IMAGE", artifact.CoreDNSImage, "ADDRESS", of.DNS().String(), "DOMAIN", topology.Domain).
		Replace(corednsManifest))
}
