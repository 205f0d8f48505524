// SPDX-License-Identifier: Apache-2.0

package policy

// Compile makes the forwarder's tables from a whole state. Equal states give
// equal results, in whatever order they list things.
func Compile(s State) Result {
	c := NewCompiler()
	c.SetNode(s.Node)
	for name, labels := range s.Namespaces {
		c.SetNamespace(name, labels)
	}
	// Policies first: each endpoint then finds its selectors by index, where a
	// new selector would have to try all endpoints.
	for _, p := range s.Policies {
		c.SetPolicy(p)
	}
	for _, p := range s.ClusterPolicies {
		c.SetClusterPolicy(p)
	}
	for _, p := range s.NetworkPolicies {
		c.SetNetworkPolicy(p)
	}
	for _, p := range s.ClusterNetworkPolicies {
		c.SetClusterNetworkPolicy(p)
	}
	for i := range s.Endpoints {
		c.SetEndpoint(s.Endpoints[i])
	}
	return c.Result()
}
