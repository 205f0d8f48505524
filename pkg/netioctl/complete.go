// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// flagCompletion sets what completes a flag's value. It fails only for a flag
// that is not there: a mistake in this program.
func flagCompletion(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err)
	}
}

func fixedCompletion(cmd *cobra.Command, flag string, values ...string) {
	flagCompletion(cmd, flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// first completes the first argument only.
func first(f cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f(cmd, args, word)
	}
}

// names gives the names that begin with the word and are not among the
// arguments yet. A daemon that does not answer has none.
func (a *app) names(cmd *cobra.Command, args []string, word string, list func(context.Context) ([]string, error)) ([]cobra.Completion, cobra.ShellCompDirective) {
	a.timeout = a.completionTimeout
	names, err := list(cmd.Context())
	if err != nil {
		cobra.CompDebugln(err.Error(), false)
	}
	slices.Sort(names)
	names = slices.DeleteFunc(slices.Compact(names), func(n string) bool {
		return n == "" || !strings.HasPrefix(n, word) || slices.Contains(args, n)
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completePorts completes a port's name, or its pod's.
func (a *app) completePorts(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.names(cmd, args, word, a.portNames)
}

func (a *app) portNames(ctx context.Context) ([]string, error) {
	fw, err := a.forwarder()
	if err != nil {
		return nil, err
	}
	defer fw.Close()
	places, err := portPlaces(ctx, fw)
	var names []string
	for _, p := range places {
		names = append(names, p.port, p.label)
	}
	return names, err
}

func (a *app) endpointNames(ctx context.Context) ([]string, error) {
	places, err := a.endpointPlaces(ctx)
	var names []string
	for _, p := range places {
		names = append(names, p.label)
	}
	return names, err
}

func (a *app) completeEndpoints(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.names(cmd, args, word, a.endpointNames)
}

// completeTrace is completeExplain with the places that trace knows besides.
func (a *app) completeTrace(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.completeEnds(cmd, args, word, hostPortName, outside.label)
}

// completeExplain completes SRC, and DST up to the colon.
func (a *app) completeExplain(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.completeEnds(cmd, args, word)
}

func (a *app) completeEnds(cmd *cobra.Command, args []string, word string, more ...string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 1 || strings.Contains(word, ":") {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	// A pod may well talk to itself, so what is there already counts not.
	names, directive := a.names(cmd, nil, word, func(ctx context.Context) ([]string, error) {
		names, err := a.endpointNames(ctx)
		if len(names) == 0 {
			names, err = a.portNames(ctx)
		}
		return append(names, more...), err
	})
	if len(args) == 1 {
		for i := range names {
			names[i] += ":"
		}
		directive |= cobra.ShellCompDirectiveNoSpace
	}
	return names, directive
}

// completeNodes completes names of the cluster's nodes, in a list.
func (a *app) completeNodes(cmd *cobra.Command, _ []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	before := word[:strings.LastIndex(word, ",")+1]
	names, directive := a.names(cmd, strings.Split(before, ","), word[len(before):], func(ctx context.Context) ([]string, error) {
		if err := a.reachCluster(); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, a.timeout)
		defer cancel()
		nodes, err := a.cluster.Nodes(ctx)
		var names []string
		for i := range nodes {
			names = append(names, nodes[i].Name)
		}
		return names, err
	})
	for i := range names {
		names[i] = before + names[i]
		directive |= cobra.ShellCompDirectiveNoSpace // a comma and more may follow
	}
	return names, directive
}

func (a *app) completeNamespaces(cmd *cobra.Command, _ []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.names(cmd, nil, word, func(ctx context.Context) ([]string, error) {
		g, err := a.agent()
		if err != nil {
			return nil, err
		}
		defer g.Close()
		list, err := g.ListEndpoints(ctx, &agentv1.ListEndpointsRequest{})
		var names []string
		for _, e := range list.GetEndpoints() {
			names = append(names, e.GetNamespace())
		}
		return names, err
	})
}

func (a *app) completeReasons(cmd *cobra.Command, _ []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.names(cmd, nil, word, func(ctx context.Context) ([]string, error) {
		fw, err := a.forwarder()
		if err != nil {
			return nil, err
		}
		defer fw.Close()
		list, err := fw.ListDrops(ctx, &dataplanev1.ListDropsRequest{})
		var names []string
		for _, d := range list.GetDrops() {
			names = append(names, d.GetReason())
		}
		return names, err
	})
}

func (a *app) completePolicies(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.names(cmd, args, word, func(ctx context.Context) ([]string, error) {
		fw, err := a.forwarder()
		if err != nil {
			return nil, err
		}
		defer fw.Close()
		snap, err := fw.Get(ctx, &dataplanev1.GetRequest{})
		var names []string
		for _, p := range snap.GetPolicies() {
			names = append(names, p.GetName())
		}
		return names, err
	})
}
