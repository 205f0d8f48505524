// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/pkg/agent/kubetest"
)

// TestGuideIsApplied gives the examples of the policy guide to an API server, as
// kubectl apply does: it takes them, and refuses none for a field that it does not know.
func TestGuideIsApplied(t *testing.T) {
	config := kubetest.APIServer(t)
	kubetest.InstallCRDs(t, config)
	kubetest.InstallNetworkPolicyAPI(t, config)
	c := client.WithFieldValidation(kubetest.Client(t, config), metav1.FieldValidationStrict)
	guide, err := os.ReadFile("../../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	applied := 0
	for _, m := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```\n").FindAllStringSubmatch(string(guide), -1) {
		for d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(m[1]), 4096); ; {
			o := &unstructured.Unstructured{}
			err := d.Decode(&o.Object)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%v in\n%s", err, m[1])
			}
			if ns := o.GetNamespace(); ns != "" {
				if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}); err != nil && !apierrors.IsAlreadyExists(err) {
					t.Fatal(err)
				}
			} else if strings.HasSuffix(o.GetKind(), "Policy") && !strings.HasPrefix(o.GetKind(), "NetIOCluster") && !strings.HasPrefix(o.GetKind(), "Cluster") {
				o.SetNamespace(metav1.NamespaceDefault)
			}
			// Examples of one name follow each other: each is applied.
			o.SetGenerateName(o.GetName() + "-")
			o.SetName("")
			if err := c.Create(t.Context(), o); err != nil {
				t.Errorf("%v:\n%s", err, m[1])
			}
			applied++
		}
	}
	if applied < 5 {
		t.Errorf("%d examples", applied)
	}
}
