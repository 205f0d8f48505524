// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"context"
	"fmt"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// right is one that a test needs.
type right struct {
	group, resource, subresource string
	verbs                        []string
	everywhere                   bool // in the whole cluster
}

// rights are those for a test in a namespace of its own, or in one that is there.
func rights(own bool) []right {
	list := []right{
		{resource: "nodes", verbs: []string{"list"}, everywhere: true},
		{resource: "pods", verbs: []string{"list"}, everywhere: true},
		{resource: "pods", verbs: []string{"create", "get", "delete"}},
		{resource: "pods", subresource: "exec", verbs: []string{"create"}},
		{resource: "services", verbs: []string{"create", "delete"}},
		{group: "networking.k8s.io", resource: "networkpolicies", verbs: []string{"create", "delete"}},
		{group: "netio.dev", resource: "netiopolicies", verbs: []string{"create", "delete"}},
	}
	if own {
		list = append(list, right{resource: "namespaces", verbs: []string{"create", "get", "list", "delete"}, everywhere: true})
	}
	return list
}

// checkRights fails with all rights that are missing. namespace is "" for a test in one
// that is still to be made.
func checkRights(ctx context.Context, client kubernetes.Interface, namespace string) error {
	var missing []string
	for _, r := range rights(namespace == "") {
		for _, verb := range r.verbs {
			in := namespace
			if r.everywhere {
				in = ""
			}
			review, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
				Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: in, Verb: verb, Group: r.group, Resource: r.resource, Subresource: r.subresource,
				}},
			}, metav1.CreateOptions{})
			if err != nil {
				return fmt.Errorf("ask the API server for the rights there are: %w", err)
			}
			if !review.Status.Allowed {
				missing = append(missing, verb+" "+r.String())
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	where := "in all namespaces, as the test makes one of its own"
	if namespace != "" {
		where = "in namespace " + namespace
	}
	return fmt.Errorf("nothing was made, as these rights are missing: %s (of what is in namespaces: %s)", strings.Join(missing, ", "), where)
}

func (r *right) String() string {
	s := r.resource
	if r.subresource != "" {
		s += "/" + r.subresource
	}
	if r.group != "" {
		s += "." + r.group
	}
	return s
}
