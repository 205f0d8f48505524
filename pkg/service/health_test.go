// SPDX-License-Identifier: Apache-2.0

package service

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

func TestHealthChecks(t *testing.T) {
	checked := web(func(s *corev1.Service) { s.Spec.HealthCheckNodePort = 30099 })
	other := web(func(s *corev1.Service) { s.Name = "other" })
	services := map[string]*corev1.Service{"shop/web": checked, "shop/other": other}
	for name, test := range map[string]struct {
		slices []*discoveryv1.EndpointSlice
		want   int
	}{
		"nobody":                   {nil, 0},
		"of this node alone":       {[]*discoveryv1.EndpointSlice{slice("a", "10.1.0.1 @n1", "10.1.0.2 @n2", "10.1.0.3")}, 1},
		"not those about to end":   {[]*discoveryv1.EndpointSlice{slice("a", "10.1.0.1 @n1 serving", "10.1.0.2 @n1 not-ready")}, 0},
		"each once":                {[]*discoveryv1.EndpointSlice{slice("a", "10.1.0.1 @n1"), slice("b", "10.1.0.1 @n1", "10.1.0.4 @n1 unknown")}, 2},
		"not those of no endpoint": {[]*discoveryv1.EndpointSlice{{}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			endpoints := map[string]*discoveryv1.EndpointSlice{}
			for _, s := range test.slices {
				endpoints["shop/"+s.Name] = s
			}
			want := []HealthCheck{{Namespace: "shop", Name: "web", Port: 30099, Local: test.want}}
			if diff := cmp.Diff(want, HealthChecksOf(services, endpoints, proxyNode())); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	if all := HealthChecksOf(services, nil, Node{Name: "n1"}); len(all) > 0 {
		t.Errorf("beside kube-proxy: %v", all)
	}
}
