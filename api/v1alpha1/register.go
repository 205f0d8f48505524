// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of the objects of this package.
var GroupVersion = schema.GroupVersion{Group: "netio.dev", Version: "v1alpha1"}

var (
	schemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)

	// AddToScheme makes the objects of this package known to a scheme.
	AddToScheme = schemeBuilder.AddToScheme
)

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &NetIOPolicy{}, &NetIOPolicyList{}, &NetIOClusterPolicy{}, &NetIOClusterPolicyList{}, &NetIONode{}, &NetIONodeList{}, &NetIOIPPool{}, &NetIOIPPoolList{}, &NetIOCluster{}, &NetIOClusterList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
