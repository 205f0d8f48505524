// SPDX-License-Identifier: Apache-2.0

package desired

type namespaced interface {
	comparable
	GetNamespace() string
	GetName() string
}

// each calls set for objects that are new or others than they were, and gone for
// those that are not there any more.
func each[T namespaced](was, now map[string]T, set func(T), gone func(namespace, name string)) {
	for key, o := range was {
		if _, ok := now[key]; !ok {
			gone(o.GetNamespace(), o.GetName())
		}
	}
	for key, o := range now {
		if was[key] != o {
			set(o)
		}
	}
}
