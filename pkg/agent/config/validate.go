// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxSocketPath is the longest path of a unix socket: sun_path of unix(7)
// without its final zero and the ".new" that it has while it is made.
const maxSocketPath = 107 - len(".new")

// validate checks what no field alone can tell, and fills in the router
// addresses.
func (d *decoder) validate(c *Config) {
	if d.cluster {
		for _, field := range []string{"podCIDRs", "routerAddresses"} {
			if _, ok := d.lines[field]; ok {
				d.add(field, "comes from the cluster, from the node's spec.podCIDRs; remove it here, or say --standalone")
			}
		}
	} else {
		d.validatePods(c)
	}
	if c.ExternalIPs && !c.KubeProxyReplacement {
		d.add("externalIPs", "is of no use without kubeProxyReplacement; remove it, or set kubeProxyReplacement: true")
	}
	d.validateNames(c)
	d.validatePaths(c)
	d.validateMetrics(c.Metrics)
	if m := c.Connections; m.Max != 0 && m.MaxPerPort > m.Max {
		d.add("connections.maxPerPort", "%d is more than connections.max, %d; lower it", m.MaxPerPort, m.Max)
	}
}

func (d *decoder) validatePods(c *Config) {
	d.validateCIDRs(c)
	if len(d.mistakes) == 0 {
		d.validateRouters(c)
	}
}

func (d *decoder) validateCIDRs(c *Config) {
	if len(c.PodCIDRs) == 0 {
		d.add("podCIDRs", "none given; expected at least one prefix that pods get addresses from, for example:\n%s", Example)
	}
	for i, p := range c.PodCIDRs {
		at := fmt.Sprintf("podCIDRs[%d]", i)
		if wrong := unusable(p); wrong != "" {
			d.add(at, "%s is %s; choose a private prefix such as 10.244.0.0/24 (RFC 1918) or fd00:10:244::/64 (RFC 4193)", p, wrong)
		}
		if p.Addr().Is6() && p.Bits() < 64 {
			d.add(at, "%s is larger than one node can use; expected a /64 or longer, such as %s", p, netip.PrefixFrom(p.Addr(), 64))
		}
		if p.Addr().BitLen()-p.Bits() < 2 {
			d.add(at, "%s has no room for pods; expected a prefix of at least four addresses", p)
		}
		for j, q := range c.PodCIDRs[:i] {
			if p.Overlaps(q) {
				d.add(at, "%s overlaps podCIDRs[%d], %s; remove one or choose another prefix", p, j, q)
			}
		}
	}
}

// unusable tells why pods cannot live in p, "" if they can.
func unusable(p netip.Prefix) string {
	reserved := []struct{ prefix, what string }{
		{"0.0.0.0/8", "\"this network\""}, {"127.0.0.0/8", "loopback"}, {"169.254.0.0/16", "link-local"},
		{"224.0.0.0/4", "multicast"}, {"240.0.0.0/4", "reserved"},
		{"::/16", "reserved"}, {"fe80::/10", "link-local"}, {"ff00::/8", "multicast"},
	}
	for _, r := range reserved {
		if p.Overlaps(netip.MustParsePrefix(r.prefix)) {
			return r.what
		}
	}
	return ""
}

// validateRouters checks the router addresses, or takes the first address of
// the first prefix of each family, and sorts both lists IPv4 first.
func (d *decoder) validateRouters(c *Config) {
	given := len(c.RouterAddresses) > 0
	var routers []netip.Addr
	for _, six := range []bool{false, true} {
		i := slices.IndexFunc(c.PodCIDRs, func(p netip.Prefix) bool { return p.Addr().Is6() == six })
		of := func(a netip.Addr) bool { return a.Is6() == six }
		j := slices.IndexFunc(c.RouterAddresses, of)
		at := fmt.Sprintf("routerAddresses[%d]", max(j, 0))
		switch {
		case i < 0 && j >= 0:
			d.add(at, "%s is of a family that podCIDRs has no prefix of; remove it or add a prefix", c.RouterAddresses[j])
		case i < 0:
		case j < 0 && given:
			d.add("routerAddresses", "has no %s address but podCIDRs has %s; add one, or remove the field for the first address of each", family(six), c.PodCIDRs[i])
		case j < 0:
			routers = append(routers, c.PodCIDRs[i].Addr().Next())
		default:
			if k := slices.IndexFunc(c.RouterAddresses[j+1:], of); k >= 0 {
				d.add(fmt.Sprintf("routerAddresses[%d]", j+1+k), "%s is a second %s address; expected one of each family", c.RouterAddresses[j+1+k], family(six))
			}
			d.validateRouter(at, c.RouterAddresses[j], c.PodCIDRs)
			routers = append(routers, c.RouterAddresses[j])
		}
	}
	c.RouterAddresses = routers
	slices.SortStableFunc(c.PodCIDRs, func(a, b netip.Prefix) int { return a.Addr().BitLen() - b.Addr().BitLen() })
}

func (d *decoder) validateRouter(at string, a netip.Addr, cidrs []netip.Prefix) {
	if unusable(netip.PrefixFrom(a, a.BitLen())) != "" {
		d.add(at, "%s is not a unicast address that pods can reach; take one of podCIDRs, such as its first", a)
	}
	for _, p := range cidrs {
		if p.Contains(a) && (a == p.Addr() || !p.Contains(a.Next())) && a.Is4() {
			d.add(at, "%s is the network or broadcast address of %s; take another one, such as %s", a, p, p.Addr().Next())
		}
	}
}

func family(six bool) string {
	if six {
		return "IPv6"
	}
	return "IPv4"
}

func (d *decoder) validateNames(c *Config) {
	if !ValidIfName(c.HostInterface) {
		d.add("hostInterface", "%q is not an interface name; expected 1 to 15 letters, digits, or - _ . such as %s", c.HostInterface, DefaultHostInterface)
	}
	if strings.ContainsFunc(c.Node, func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }) {
		d.add("node", "%q has blanks or slashes; expected a name such as host1", c.Node)
	}
	if i := c.InstallCNI; i != nil {
		if !ValidCNIName(i.Network) {
			d.add("installCNI.network", "%q is not a CNI network name; expected letters, digits, and _ . - after the first, such as %s", i.Network, DefaultNetwork)
		}
		if i.File != filepath.Base(i.File) || filepath.Ext(i.File) != ".conflist" {
			d.add("installCNI.file", "%q is not a file name that ends in .conflist; expected one such as 10-netio.conflist", i.File)
		}
	}
}

func (d *decoder) validatePaths(c *Config) {
	paths := map[string]string{"runDir": c.RunDir, "stateDir": c.StateDir, "socket": c.Socket, "forwarderSocket": c.ForwarderSocket}
	if i := c.InstallCNI; i != nil {
		paths["installCNI.binDir"], paths["installCNI.confDir"] = i.BinDir, i.ConfDir
	}
	for field, p := range paths {
		if !filepath.IsAbs(p) || strings.ContainsRune(p, 0) {
			d.add(field, "%q is not an absolute path; expected one that begins with /", p)
		}
	}
	for _, field := range []string{"socket", "forwarderSocket"} {
		if p := paths[field]; len(p) > maxSocketPath {
			d.add(field, "%s is %d bytes long; a socket's path has at most %d: choose a shorter runDir", p, len(p), maxSocketPath)
		}
	}
	if c.Socket == c.ForwarderSocket {
		d.add("forwarderSocket", "%s is the agent's own socket too; give them different paths", c.Socket)
	}
}

func (d *decoder) validateMetrics(m *Metrics) {
	const expected = "expected IP:PORT such as 127.0.0.1:9617, or :9617 for every address of the host"
	if m == nil {
		return
	}
	if m.Address == "" {
		d.add("metrics.address", "not given; %s; or remove metrics", expected)
		return
	}
	host, port, err := net.SplitHostPort(m.Address)
	if n, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || n == 0 {
		d.add("metrics.address", "%q has no port; %s", m.Address, expected)
		return
	}
	if ip, err := netip.ParseAddr(host); host != "" && (err != nil || ip.Zone() != "") {
		d.add("metrics.address", "%q is not an IP address; %s", host, expected)
	}
}

// ValidIfName tells whether Linux takes name for an interface.
func ValidIfName(name string) bool {
	return len(name) > 0 && len(name) < 16 && name != "." && name != ".." && name != "all" && name != "default" &&
		!strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' || r == ':' || r == '%' })
}

// ValidCNIName tells whether the CNI specification takes name for a network
// (section 1) or a container ID (section 2).
func ValidCNIName(name string) bool {
	alnum := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' }
	for i, r := range name {
		if !alnum(r) && (i == 0 || !strings.ContainsRune("_.-", r)) {
			return false
		}
	}
	return name != ""
}
