// SPDX-License-Identifier: Apache-2.0

// Package kubetest gives tests a real API server, the test cluster's.
package kubetest

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	kubernetes "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	networkapi "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"netio.dev/netio/api/v1alpha1"
)

// top is the tree's.
func top() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../../..")
}

// APIServer starts an API server without CRDs, which ends with the test. It skips
// the test where the test cluster was not built.
func APIServer(t testing.TB) *rest.Config {
	t.Helper()
	binaries := filepath.Join(top(), "build/cluster/bin")
	if _, err := os.Stat(filepath.Join(binaries, "kube-apiserver")); err != nil {
		t.Skipf("needs an API server, which `make cluster-up NODES=1` builds: %v", err)
	}
	env := &envtest.Environment{BinaryAssetsDirectory: binaries}
	config, err := env.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Error(err)
		}
	})
	return config
}

// InstallCRDs gives an API server NetIO's.
func InstallCRDs(t testing.TB, config *rest.Config) {
	t.Helper()
	_, err := envtest.InstallCRDs(config, envtest.CRDInstallOptions{
		Paths: []string{filepath.Join(top(), "config/crd")}, ErrorIfPathMissing: true,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// InstallNetworkPolicyAPI gives an API server the kind ClusterNetworkPolicy, with any
// content.
func InstallNetworkPolicyAPI(t testing.TB, config *rest.Config) {
	t.Helper()
	group := networkapi.GroupVersion
	crd := &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "clusternetworkpolicies." + group.Group, Annotations: map[string]string{"api-approved.kubernetes.io": "unapproved, for a test"}},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: group.Group, Scope: apiextensionsv1.ClusterScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "clusternetworkpolicies", Kind: "ClusterNetworkPolicy"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: group.Version, Served: true, Storage: true,
				Schema:       &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: new(true)}},
				Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
			}},
		},
	}
	if _, err := envtest.InstallCRDs(config, envtest.CRDInstallOptions{CRDs: []*apiextensionsv1.CustomResourceDefinition{crd}}); err != nil {
		t.Fatal(err)
	}
}

// Client is one for objects of Kubernetes, NetIO and the network policy API.
func Client(t testing.TB, config *rest.Config) client.Client {
	t.Helper()
	scheme := apiruntime.NewScheme()
	for _, add := range []func(*apiruntime.Scheme) error{kubernetes.AddToScheme, networkapi.Install, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// patience bounds what an API server of a test, and who works with it, may take.
const patience = time.Minute

// Await waits until an object is as it should be, and returns it.
func Await[T client.Object](t testing.TB, c client.Client, what string, o T, ok func(T) bool) T {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { // between two looks
		err := c.Get(t.Context(), client.ObjectKeyFromObject(o), o)
		if err == nil && ok(o) {
			return o
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not so: %v, %+v", what, err, o)
		}
	}
}
