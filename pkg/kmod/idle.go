// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"errors"
	"fmt"
	"strings"
)

// instancesFile lists the module's instances of the caller's network namespace (kmod/show.c).
const instancesFile = "/proc/net/netio/instances"

// EndIdle ends the instances of this network namespace that no process owns and none
// of whose ports is elsewhere, as in a pod, with the interfaces that they have here; and
// returns their names. The module may have any ABI. Errors are of those that could not be ended; one
// that is in use is none.
func (s *System) EndIdle() ([]string, error) {
	text, err := s.read(instancesFile)
	if err != nil {
		return nil, nil // a module without instances, or without the file
	}
	var ended []string
	var errs []error
	for _, name := range instances(string(text)) {
		done, err := s.Kernel.EndIdle(s.path(DeviceFile), name)
		if err != nil {
			errs = append(errs, fmt.Errorf("instance %s: %w", name, err))
		}
		if done {
			ended = append(ended, name)
		}
	}
	return ended, errors.Join(errs...)
}

// instances are the names in the file: each begins a line "NAME: abi 1.1, ...", and what
// belongs to it is indented.
func instances(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		if name, _, ok := strings.Cut(line, ": abi "); ok && name != "" && !strings.ContainsAny(name, " \t") {
			names = append(names, name)
		}
	}
	return names
}
