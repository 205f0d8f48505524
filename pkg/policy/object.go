// SPDX-License-Identifier: Apache-2.0

package policy

import "strings"

// Kinds of policies.
const (
	KindNetIOPolicy          = "NetIOPolicy"
	KindNetIOClusterPolicy   = "NetIOClusterPolicy"
	KindNetworkPolicy        = "NetworkPolicy"
	KindClusterNetworkPolicy = "ClusterNetworkPolicy"
)

// Object is the object that a policy of the tables was made of, by its name there.
// The namespace of one of the whole cluster is "".
func Object(table string) (kind, namespace, name string) {
	table, _, _ = strings.Cut(table, "#") // what is by the name of a port
	kind, rest, other := strings.Cut(table, ":")
	if !other {
		kind, rest = KindNetIOPolicy, table
	}
	if namespace, name, ok := strings.Cut(rest, "/"); ok {
		return kind, namespace, name
	}
	return kind, "", rest
}
