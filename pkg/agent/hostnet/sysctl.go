// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"netio.dev/netio/pkg/agent/atomicfile"
)

// setting is a sysctl's value that is wanted; see the kernel's ip-sysctl documentation.
type setting struct{ path, value string }

// reconcileSysctls turns forwarding on and fits the host knet's own ones.
func (s *session) reconcileSysctls(c Config) error {
	knet := filepath.Join("ipv4/conf", c.IfName)
	want := []setting{
		{"ipv4/ip_forward", "1"},
		{knet + "/forwarding", "1"},
		// The forwarder's ICMP errors come from the router's address, which is
		// the host's own.
		{knet + "/accept_local", "1"},
		// Loose: where policy routing leads replies elsewhere, strict would
		// drop. The forwarder has checked the sources of pods already.
		{knet + "/rp_filter", "2"},
	}
	return s.inside(func() error {
		if c.ipv6() {
			if _, err := os.Stat(s.Sysctls.Path("ipv6")); err != nil {
				return errNoIPv6()
			}
			keep, err := s.keepRouterAdvertisements()
			if err != nil {
				return err
			}
			want = append(want, keep...)
			want = append(want, setting{"ipv6/conf/all/forwarding", "1"})
		}
		var errs []error
		for _, w := range want {
			errs = append(errs, s.set(w))
		}
		return errors.Join(errs...)
	})
}

// keepRouterAdvertisements finds the interfaces that would lose their default
// route with forwarding on: a router does not listen to other routers unless
// accept_ra is 2.
func (s *session) keepRouterAdvertisements() ([]setting, error) {
	if is, err := s.Sysctls.Read("ipv6/conf/all/forwarding"); err != nil || is == "1" {
		return nil, err
	}
	entries, err := os.ReadDir(s.Sysctls.Path("ipv6/conf"))
	if err != nil {
		return nil, fmt.Errorf("list sysctls: %w", err)
	}
	var keep []setting
	for _, e := range entries {
		path := filepath.Join("ipv6/conf", e.Name(), "accept_ra")
		if is, err := s.Sysctls.Read(path); err == nil && is == "1" && e.Name() != "all" && e.Name() != "lo" {
			keep = append(keep, setting{path, "2"})
		}
	}
	return keep, nil
}

// enableIPv6 turns IPv6 on for an interface, which other programs' settings for
// new interfaces may have turned off.
func (s *session) enableIPv6(ifname string) error {
	conf := filepath.Join("ipv6/conf", ifname)
	if _, err := s.Sysctls.Read(conf + "/disable_ipv6"); errors.Is(err, fs.ErrNotExist) {
		return errNoIPv6()
	}
	for _, w := range []setting{
		{conf + "/disable_ipv6", "0"},
		{conf + "/accept_ra", "0"},
		{conf + "/addr_gen_mode", "1"}, // no link-local address, so no router solicitations
	} {
		if err := s.Sysctls.Write(w.path, w.value); err != nil {
			return err
		}
	}
	return nil
}

func errNoIPv6() error {
	return fmt.Errorf("%w: boot without ipv6.disable=1, or take the IPv6 prefixes out of podCIDRs", ErrNoIPv6)
}

// set writes a value and records what was there before the first time.
func (s *session) set(w setting) error {
	is, err := s.Sysctls.Read(w.path)
	if errors.Is(err, fs.ErrNotExist) && strings.Contains(w.path, "/conf/") {
		return nil // of an interface that is gone, or not there yet
	}
	if err != nil {
		return fmt.Errorf("read sysctl: %w", err)
	}
	if is == w.value {
		return nil
	}
	if err := s.record(w.path, is); err != nil {
		return err
	}
	return s.Sysctls.Write(w.path, w.value)
}

// record remembers the first value of each sysctl.
func (s *session) record(path, value string) error {
	if s.SysctlRecord == "" {
		return nil
	}
	values, err := s.recorded()
	if err != nil {
		return err
	}
	if _, ok := values[path]; ok {
		return nil
	}
	values[path] = value
	data, err := json.MarshalIndent(values, "", "  ")
	if err != nil {
		return fmt.Errorf("record sysctl: %w", err)
	}
	if err := atomicfile.Write(s.SysctlRecord, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("record sysctl: %w", err)
	}
	return nil
}

func (s *session) recorded() (map[string]string, error) {
	values := map[string]string{}
	data, err := os.ReadFile(s.SysctlRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return values, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &values)
	}
	if err != nil {
		return nil, fmt.Errorf("read record of sysctls %s: %w; remove it if it is damaged", s.SysctlRecord, err)
	}
	return values, nil
}

func (s *session) restoreSysctls() error {
	values, err := s.recorded()
	if err != nil {
		return err
	}
	var errs []error
	restore := func(path string) {
		value, ok := values[path]
		if !ok {
			return
		}
		delete(values, path)
		if _, err := s.Sysctls.Read(path); errors.Is(err, fs.ErrNotExist) {
			return
		}
		errs = append(errs, s.Sysctls.Write(path, value))
	}
	return s.inside(func() error {
		// Forwarding first: it is what accept_ra 2 was for.
		restore("ipv6/conf/all/forwarding")
		for path := range values {
			restore(path)
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
		return atomicfile.Remove(s.SysctlRecord)
	})
}
