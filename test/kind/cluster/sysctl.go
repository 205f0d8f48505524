// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"netio.dev/netio/test/kind/state"
)

// limits of the machine that a cluster reaches: each kubelet, containerd and
// component watches files. They are per user, not per namespace.
var limits = map[string]int{
	"fs/inotify/max_user_instances": 8192,
	"fs/inotify/max_user_watches":   524288,
}

// planSysctls says which limits are too low, and what they are to be.
func planSysctls() (map[string]state.Sysctl, error) {
	plan := map[string]state.Sysctl{}
	for name, least := range limits {
		was, err := readSysctl(name)
		if err != nil {
			return nil, err
		}
		if n, err := strconv.Atoi(was); err != nil || n < least {
			plan[name] = state.Sysctl{Was: was, Is: strconv.Itoa(least)}
		}
	}
	return plan, nil
}

func setSysctls(plan map[string]state.Sysctl) error {
	for name, s := range plan {
		if err := writeSysctl(name, s.Is); err != nil {
			return fmt.Errorf("%w; raise %s to %s yourself", err, name, s.Is)
		}
	}
	return nil
}

// restoreSysctls, except those that somebody else has set meanwhile.
func restoreSysctls(plan map[string]state.Sysctl) error {
	var errs []error
	for name, s := range plan {
		if is, err := readSysctl(name); err != nil || is != s.Is {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, writeSysctl(name, s.Was))
	}
	return errors.Join(errs...)
}

func readSysctl(name string) (string, error) {
	data, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return "", fmt.Errorf("read sysctl: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

func writeSysctl(name, value string) error {
	if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o644); err != nil {
		return fmt.Errorf("set sysctl: %w", err)
	}
	return nil
}
