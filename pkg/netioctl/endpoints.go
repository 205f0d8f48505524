// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
)

func (a *app) endpointsCommand() *cobra.Command {
	var namespace string
	cmd := &cobra.Command{
		Use:               "endpoints [NAME...]",
		Short:             "List the pods: their ports, addresses, labels and policies",
		Long:              "List the pods: their ports, addresses, labels and policies. The agent is asked.",
		Args:              arguments(0, -1, "names of endpoints"),
		ValidArgsFunction: a.completeEndpoints,
		RunE: func(cmd *cobra.Command, args []string) error {
			g, err := a.agent()
			if err != nil {
				return err
			}
			defer g.Close()
			list, err := g.ListEndpoints(cmd.Context(), &agentv1.ListEndpointsRequest{})
			if err != nil {
				return err
			}
			if list, err = selectEndpoints(list, namespace, args); err != nil {
				return err
			}
			return a.print(list, func(w io.Writer) error {
				t := newTable(left("NAMESPACE", "NAME", "PORT", "ADDRESSES", "INTERFACE", "LABELS", "POLICIES"))
				for _, e := range list.GetEndpoints() {
					t.add(e.GetNamespace(), e.GetName(), e.GetPort(), strings.Join(e.GetAddresses(), ","), e.GetId().GetIfname(),
						labels(e.GetLabels()), strings.Join(e.GetPolicies(), ","))
				}
				return t.write(w)
			})
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "only of this namespace")
	flagCompletion(cmd, "namespace", a.completeNamespaces)
	return cmd
}

// selectEndpoints takes those of a namespace, and of these names if there are
// any. Several endpoints may have the same name.
func selectEndpoints(list *agentv1.ListEndpointsResponse, namespace string, names []string) (*agentv1.ListEndpointsResponse, error) {
	some := &agentv1.ListEndpointsResponse{}
	found := make(map[string]bool)
	for _, e := range list.GetEndpoints() {
		if namespace != "" && e.GetNamespace() != namespace {
			continue
		}
		i := slices.IndexFunc(names, func(n string) bool { return n == endpointName(e) || n == e.GetName() || n == e.GetPort() })
		if i >= 0 {
			found[names[i]] = true
		} else if len(names) > 0 {
			continue
		}
		some.Endpoints = append(some.Endpoints, e)
	}
	for _, n := range names {
		if !found[n] {
			return nil, fmt.Errorf("no endpoint is called %q; netioctl endpoints lists them", n)
		}
	}
	return some, nil
}

func labels(m map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, k+"="+m[k])
	}
	return strings.Join(list, ",")
}
