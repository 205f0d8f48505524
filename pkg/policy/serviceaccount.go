// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"maps"
	"slices"
	"strconv"

	"netio.dev/netio/api/v1alpha1"
)

// Endpoints have labels for what else they are selected by: their service account,
// and the numbers of their named ports. No label of a pod has two slashes.

const serviceAccountLabel = "pod/spec/serviceAccountName"

// inLabels are the labels of an endpoint with those.
func inLabels(e *Endpoint, ports []Port) map[string]string {
	if len(ports) == 0 && e.ServiceAccount == "" {
		return e.Labels
	}
	all := make(map[string]string, len(e.Labels)+len(ports)+1)
	maps.Copy(all, e.Labels)
	for _, p := range ports {
		all[portKey{p.Protocol, p.Name}.label()] = strconv.Itoa(int(p.Number))
	}
	if e.ServiceAccount != "" {
		all[serviceAccountLabel] = e.ServiceAccount
	}
	return all
}

// running adds to a selector, nil for every pod, that the pods run as one of the
// service accounts, if there are any.
func running(s *v1alpha1.LabelSelector, as []v1alpha1.ServiceAccountName) *v1alpha1.LabelSelector {
	var out v1alpha1.LabelSelector
	if s != nil {
		out = *s
	}
	if len(as) == 0 {
		return &out
	}
	e := v1alpha1.LabelExpression{Key: serviceAccountLabel, Operator: v1alpha1.LabelIn}
	for _, name := range as {
		e.Values = append(e.Values, v1alpha1.LabelValue(name))
	}
	out.MatchExpressions = append(slices.Clone(out.MatchExpressions), e)
	return &out
}
