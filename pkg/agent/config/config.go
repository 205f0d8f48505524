// SPDX-License-Identifier: Apache-2.0

// Package config reads the agent's configuration file.
//
//	file ──Parse──> tree with line numbers ──decode──> Config ──validate──> Config in force
//	                                          │                   │
//	                                          └──── Mistakes ─────┘  (all of them, each with file, line, field)
//
// A file with a mistake changes nothing: what was in force before stays.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"netio.dev/netio/pkg/dataplane/packet"
)

// Defaults of fields that the file need not give.
const (
	DefaultHostInterface = "netio0"
	DefaultRunDir        = "/run/netio"
	DefaultStateDir      = "/var/lib/netio"
	DefaultCoolDown      = time.Minute
	DefaultNetwork       = "netio"
	DefaultCNIBinDir     = "/opt/cni/bin"
	DefaultCNIConfDir    = "/etc/cni/net.d"
	DefaultVNI           = 9617
	// MinMTU is the least that IPv6 works with (RFC 8200 section 5).
	MinMTU = 1280
	// MaxMTU is the largest IP packet.
	MaxMTU = 65535
)

// Config is a valid configuration with all defaults filled in, except MTU and
// Node, which come from the machine.
type Config struct {
	// Node is the name of this machine, "" for its host name.
	Node string
	// PodCIDRs are the prefixes that pods get addresses from, IPv4 first.
	// They do not overlap.
	PodCIDRs []netip.Prefix
	// RouterAddresses has one address per family in PodCIDRs, IPv4 first:
	// the pods' gateway.
	RouterAddresses []netip.Addr
	// MTU of the pods' interfaces in bytes, 0 for that of the uplink.
	MTU int
	// HostInterface is the name of the host's own knet.
	HostInterface string
	// Masquerade gives pods the host's address on their way to the world.
	Masquerade bool
	// MasqueradeExcept are destinations that see the pods' own addresses.
	MasqueradeExcept []netip.Prefix
	// RunDir holds the sockets and what need not survive a reboot.
	RunDir string
	// StateDir holds what must survive a reboot.
	StateDir string
	// Socket is the agent's, ForwarderSocket the forwarder's.
	Socket          string
	ForwarderSocket string
	// CoolDown is how long an address stays unused after a pod gave it back.
	CoolDown time.Duration
	// Connections bounds the forwarder's connection table.
	Connections Connections
	// InstallCNI is nil unless the agent is to install the CNI plugin.
	InstallCNI *InstallCNI
	// Metrics is nil unless the agent is to serve metrics over HTTP.
	Metrics *Metrics
	// KubeProxyReplacement: services of the cluster are reached from the node itself
	// and from the world by way of the forwarder, not of kube-proxy.
	KubeProxyReplacement bool
	// ExternalIPs: also by the externalIPs that services claim.
	ExternalIPs bool
	// ServiceSources has one address per family in PodCIDRs, IPv4 first, on a node
	// of a cluster: what the forwarder gives connections to services as their source
	// (the host changes it to its own).
	ServiceSources []netip.Addr
	// NodeAddresses are this node's own, from the cluster, by which others reach it.
	NodeAddresses []netip.Addr
	// Tunnel is nil where the nodes of the cluster are neighbours.
	Tunnel *Tunnel
}

// Tunnel says how packets for other nodes' pods are carried: in VXLAN (RFC 7348), from
// forwarder to forwarder.
type Tunnel struct {
	// VNI is the network identifier, Port the UDP port. Both are those of all nodes.
	VNI  uint32
	Port uint16
}

// TunnelOverhead is what a tunnel's headers take, in bytes, between nodes that have
// the families that this one has: IPv4 goes first, where pods have it, too.
func (c *Config) TunnelOverhead() int {
	switch {
	case c.Tunnel == nil:
		return 0
	case slices.ContainsFunc(c.NodeAddresses, netip.Addr.Is4) && slices.ContainsFunc(c.ServiceSources, netip.Addr.Is4):
		return packet.VXLANOverhead4
	}
	return packet.VXLANOverhead6
}

// String is what messages call it, "none" for nil.
func (t *Tunnel) String() string {
	if t == nil {
		return "none"
	}
	return fmt.Sprintf("vni %d, port %d", t.VNI, t.Port)
}

// Metrics says where metrics and health are served, and how fine they are.
type Metrics struct {
	// Address is IP:PORT, or :PORT for every address of the host.
	Address string
	// PerPod adds time series for each pod.
	PerPod bool
}

// Connections bounds the connection table; 0 is the forwarder's default.
type Connections struct {
	Max        uint32
	MaxPerPort uint32
	Timeouts   Timeouts
}

// Timeouts after which an idle connection is forgotten, in whole seconds; 0
// is the forwarder's default.
type Timeouts struct {
	TCPEstablished, TCPOpening, TCPClosing time.Duration
	UDP, UDPStream, ICMP, Other, Fragment  time.Duration
}

// InstallCNI says where container runtimes look for plugins and networks.
type InstallCNI struct {
	// BinDir gets the plugin's binary, ConfDir the network's conflist.
	BinDir  string
	ConfDir string
	// Network is the name in the conflist, File its file name in ConfDir.
	Network string
	File    string
	// PortMappings chains the reference plugin "portmap", which publishes
	// ports of pods on the host.
	PortMappings bool
}

// String is what messages call it, "none" for nil.
func (m *Metrics) String() string {
	switch {
	case m == nil:
		return "none"
	case m.PerPod:
		return m.Address + " with perPod"
	}
	return m.Address
}

// Mistake is one thing that is wrong in a configuration file.
type Mistake struct {
	File string
	// Line is 0 where the mistake is of the file as a whole.
	Line int
	// Field is the path of the field, such as "podCIDRs[1]"; "" for the file.
	Field string
	// Message says what was found, what was expected and what to do.
	Message string
}

func (m Mistake) Error() string {
	var b strings.Builder
	b.WriteString(m.File)
	if m.Line > 0 {
		fmt.Fprintf(&b, ":%d", m.Line)
	}
	if m.Field != "" {
		b.WriteString(": " + m.Field)
	}
	b.WriteString(": " + m.Message)
	return b.String()
}

// Mistakes are all mistakes of a file, in the order of its lines.
type Mistakes []Mistake

func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i := range m {
		lines[i] = m[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Load reads the file. The error is Mistakes where the content is at fault.
func Load(path string) (*Config, error) {
	data, err := Read(path, Example)
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Read returns the file's content; its error says how to begin, with the example.
func Read(path, example string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read config: %w; write one, for example:\n%s", err, example)
	}
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	return data, nil
}

// Parse reads a configuration; file is its name in messages.
func Parse(file string, data []byte) (*Config, error) {
	return (&decoder{file: file}).parse(data)
}

// ParseNode reads the configuration of a node of a cluster. It has no prefixes of
// pods, nor a router's addresses, which come from the cluster: see WithPodCIDRs.
func ParseNode(file string, data []byte) (*Config, error) {
	return (&decoder{file: file, cluster: true}).parse(data)
}

// WithPodCIDRs is c with prefixes that pods get addresses from, their first
// addresses for the router and the next ones for ServiceSources; source names where
// they are from, in errors.
func (c *Config) WithPodCIDRs(source string, prefixes []netip.Prefix) (*Config, error) {
	with := *c
	with.PodCIDRs, with.RouterAddresses, with.ServiceSources = slices.Clone(prefixes), nil, nil
	d := &decoder{file: source}
	d.validatePods(&with)
	for i, p := range prefixes {
		if p.Addr().BitLen()-p.Bits() == 2 {
			d.add(fmt.Sprintf("podCIDRs[%d]", i), "%s has no room for pods, as the node itself takes two addresses; expected a prefix of at least eight", p)
		}
	}
	if len(d.mistakes) > 0 {
		return nil, d.mistakes
	}
	for _, r := range with.RouterAddresses {
		with.ServiceSources = append(with.ServiceSources, r.Next())
	}
	return &with, nil
}

// NodeExample is a configuration of a node of a cluster.
const NodeExample = `installCNI: {}
`

// Example is a small configuration that works on most machines.
const Example = `podCIDRs:
- 10.244.0.0/24
- fd00:10:244::/64
masquerade: true
`

func (c *Config) setDefaults() {
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	set(&c.HostInterface, DefaultHostInterface)
	set(&c.RunDir, DefaultRunDir)
	set(&c.StateDir, DefaultStateDir)
	set(&c.Socket, filepath.Join(c.RunDir, "agent.sock"))
	set(&c.ForwarderSocket, filepath.Join(c.RunDir, "forwarder.sock"))
	if t := c.Tunnel; t != nil {
		t.VNI, t.Port = cmp.Or(t.VNI, DefaultVNI), cmp.Or(t.Port, packet.VXLANPort)
	}
	if i := c.InstallCNI; i != nil {
		set(&i.BinDir, DefaultCNIBinDir)
		set(&i.ConfDir, DefaultCNIConfDir)
		set(&i.Network, DefaultNetwork)
		set(&i.File, "10-"+i.Network+".conflist")
	}
}
