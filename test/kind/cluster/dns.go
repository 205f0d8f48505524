// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"

	"netio.dev/netio/test/kind/artifact"
	"netio.dev/netio/test/kind/topology"
)

//go:embed manifests/coredns.yaml
var corednsManifest string

// bringDNS deploys CoreDNS: the first pod of the cluster, so that its being ready
// shows that pods reach services.
func (u *up) bringDNS(ctx context.Context) error {
	objects, err := corednsObjects()
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := create(ctx, u.client, o); err != nil {
			return fmt.Errorf("deploy CoreDNS: %w", err)
		}
	}
	return poll(ctx, func() (bool, error) {
		d, err := u.client.AppsV1().Deployments("kube-system").Get(ctx, "coredns", metav1.GetOptions{})
		return err == nil && d.Status.AvailableReplicas > 0, nil
	})
}

func corednsObjects() ([]runtime.Object, error) {
	text := strings.NewReplacer("IMAGE", artifact.CoreDNSImage, "ADDRESS", topology.DNS.String(), "DOMAIN", topology.Domain).
		Replace(corednsManifest)
	var objects []runtime.Object
	for _, part := range bytes.Split([]byte(text), []byte("\n---\n")) {
		o, _, err := scheme.Codecs.UniversalDeserializer().Decode(part, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("read CoreDNS's manifest: %w", err)
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// create an object of one of the kinds in the manifests.
func create(ctx context.Context, c kubernetes.Interface, object runtime.Object) (err error) {
	var none metav1.CreateOptions
	switch o := object.(type) {
	case *corev1.ServiceAccount:
		_, err = c.CoreV1().ServiceAccounts(o.Namespace).Create(ctx, o, none)
	case *corev1.ConfigMap:
		_, err = c.CoreV1().ConfigMaps(o.Namespace).Create(ctx, o, none)
	case *corev1.Service:
		_, err = c.CoreV1().Services(o.Namespace).Create(ctx, o, none)
	case *appsv1.Deployment:
		_, err = c.AppsV1().Deployments(o.Namespace).Create(ctx, o, none)
	case *rbacv1.ClusterRole:
		_, err = c.RbacV1().ClusterRoles().Create(ctx, o, none)
	case *rbacv1.ClusterRoleBinding:
		_, err = c.RbacV1().ClusterRoleBindings().Create(ctx, o, none)
	default:
		err = fmt.Errorf("manifest has a %T", object)
	}
	return err
}
