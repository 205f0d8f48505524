// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"net/netip"
	"regexp"
)

// twins say in Go what the CEL rules of the schema say. The rule's text is the
// key: a rule that is changed or added without its twin is an error when the
// schema is built, and a test holds the two against each other. Twins see values
// that have the right types, like the rules.
var twins = map[string]func(any) bool{
	"!has(self.ingress) || !has(self.policyTypes) || 'Ingress' in self.policyTypes": func(v any) bool {
		return !has(v, "ingress") || !has(v, "policyTypes") || contains(v, "policyTypes", "Ingress")
	},
	"!has(self.egress) || !has(self.policyTypes) || 'Egress' in self.policyTypes": func(v any) bool {
		return !has(v, "egress") || !has(v, "policyTypes") || contains(v, "policyTypes", "Egress")
	},
	"!has(self.policyTypes) || !has(self.tier) || self.tier == 'Normal'": func(v any) bool {
		return !has(v, "policyTypes") || !has(v, "tier") || get(v, "tier") == "Normal"
	},
	"self.all(r, !has(r.name) || self.exists_one(o, has(o.name) && o.name == r.name))": func(v any) bool {
		seen := map[any]bool{}
		for _, r := range v.([]any) {
			if has(r, "name") {
				if seen[get(r, "name")] {
					return false
				}
				seen[get(r, "name")] = true
			}
		}
		return true
	},
	"self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')": func(v any) bool { return ruleName.MatchString(v.(string)) },

	"(has(self.podSelector) || has(self.namespaceSelector) || has(self.serviceAccounts) ? 1 : 0) + (has(self.nodeSelector) ? 1 : 0) + (has(self.cidr) ? 1 : 0) + (has(self.entity) ? 1 : 0) == 1": func(v any) bool {
		kinds := 0
		for _, given := range []bool{has(v, "podSelector") || has(v, "namespaceSelector") || has(v, "serviceAccounts"), has(v, "nodeSelector"), has(v, "cidr"), has(v, "entity")} {
			if given {
				kinds++
			}
		}
		return kinds == 1
	},
	"!has(self.except) || has(self.cidr)": func(v any) bool { return !has(v, "except") || has(v, "cidr") },
	"!has(self.except) || !has(self.cidr) || !isCIDR(self.cidr) || self.except.all(e, !isCIDR(e) || (cidr(self.cidr).containsCIDR(e) && cidr(self.cidr).prefixLength() < cidr(e).prefixLength()))": func(v any) bool {
		if !has(v, "except") || !has(v, "cidr") {
			return true
		}
		whole, ok := prefix(get(v, "cidr"))
		if !ok {
			return true
		}
		for _, e := range get(v, "except").([]any) {
			if part, ok := prefix(e); ok && !(whole.Overlaps(part) && whole.Bits() < part.Bits()) {
				return false
			}
		}
		return true
	},
	"isCIDR(self)": func(v any) bool {
		_, ok := prefix(v)
		return ok
	},
	"!isCIDR(self) || cidr(self) == cidr(self).masked()": func(v any) bool {
		p, ok := prefix(v)
		return !ok || p == p.Masked()
	},

	"!has(self.endPort) || has(self.port)": func(v any) bool { return !has(v, "endPort") || has(v, "port") },
	"!has(self.endPort) || !has(self.port) || self.port <= self.endPort": func(v any) bool {
		return !has(v, "endPort") || !has(v, "port") || get(v, "port").(int64) <= get(v, "endPort").(int64)
	},
	"!has(self.code) || has(self.type)": func(v any) bool { return !has(v, "code") || has(v, "type") },

	`self.all(k, size(k) <= 317 && k.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$'))`: func(v any) bool {
		for k := range v.(map[string]any) {
			if len(k) > 317 || !labelKey.MatchString(k) {
				return false
			}
		}
		return true
	},
	"!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)": func(v any) bool {
		return get(v, "operator") != "In" && get(v, "operator") != "NotIn" || size(v, "values") > 0
	},
	"!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0": func(v any) bool {
		return get(v, "operator") != "Exists" && get(v, "operator") != "DoesNotExist" || size(v, "values") == 0
	},
}

var (
	ruleName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	labelKey = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$`)
)

func get(v any, field string) any { return v.(map[string]any)[field] }

func has(v any, field string) bool {
	_, ok := v.(map[string]any)[field]
	return ok
}

func size(v any, field string) int {
	list, _ := get(v, field).([]any)
	return len(list)
}

func contains(v any, field, value string) bool {
	for _, element := range get(v, field).([]any) {
		if element == value {
			return true
		}
	}
	return false
}

// prefix is CEL's isCIDR and cidr (k8s.io/apiserver/pkg/cel/library).
func prefix(v any) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(v.(string))
	return p, err == nil && !p.Addr().Is4In6()
}
