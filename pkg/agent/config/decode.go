// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// decoder walks the YAML tree, so that every mistake has a line, and collects
// mistakes, so that one reading shows all of them.
type decoder struct {
	file     string
	cluster  bool // the prefixes of pods come from a cluster
	mistakes Mistakes
	// lines has the line of each field that the file gives, by path.
	lines map[string]int
}

func (d *decoder) parse(data []byte) (*Config, error) {
	c := d.decode(data)
	if len(d.mistakes) == 0 {
		d.validate(c)
	}
	if len(d.mistakes) > 0 {
		return nil, d.sorted()
	}
	return c, nil
}

func (d *decoder) add(path, format string, args ...any) {
	d.mistakes = append(d.mistakes, Mistake{d.file, d.lineOf(path), path, fmt.Sprintf(format, args...)})
}

// lineOf is the line of the field or of the nearest one above it.
func (d *decoder) lineOf(path string) int {
	for path != "" {
		if l, ok := d.lines[path]; ok {
			return l
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return d.lines[""]
}

func (d *decoder) sorted() Mistakes {
	slices.SortStableFunc(d.mistakes, func(a, b Mistake) int { return a.Line - b.Line })
	return d.mistakes
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): (.*)$`)

func (d *decoder) decode(data []byte) *Config {
	d.lines = map[string]int{}
	c := &Config{Masquerade: true, CoolDown: DefaultCoolDown}
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF) && d.cluster:
		c.setDefaults()
		return c
	case errors.Is(err, io.EOF):
		d.add("", "the file is empty; podCIDRs is needed, for example:\n%s", Example)
		return c
	case err != nil:
		m := Mistake{File: d.file, Message: "not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
		if g := yamlLine.FindStringSubmatch(err.Error()); g != nil {
			m.Line, _ = strconv.Atoi(g[1])
			m.Message = "not YAML: " + g[2]
		}
		d.mistakes = append(d.mistakes, m)
		return c
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		d.mistakes = append(d.mistakes, Mistake{d.file, more.Line, "", "a second YAML document; expected one: remove it and its ---"})
	}
	fields := map[string]func(*yaml.Node, string){
		"node":             d.string(&c.Node),
		"podCIDRs":         list(d, &c.PodCIDRs, d.prefix),
		"routerAddresses":  list(d, &c.RouterAddresses, d.addr),
		"mtu":              integer(d, &c.MTU, MinMTU, MaxMTU),
		"hostInterface":    d.string(&c.HostInterface),
		"masquerade":       d.bool(&c.Masquerade),
		"masqueradeExcept": list(d, &c.MasqueradeExcept, d.prefix),
		"runDir":           d.string(&c.RunDir),
		"stateDir":         d.string(&c.StateDir),
		"socket":           d.string(&c.Socket),
		"forwarderSocket":  d.string(&c.ForwarderSocket),
		"coolDown":         d.duration(&c.CoolDown, 0, 24*time.Hour),
		"connections":      d.connections(&c.Connections),
		"installCNI":       d.installCNI(&c.InstallCNI),
		"metrics":          d.metrics(&c.Metrics),
	}
	if d.cluster {
		fields["kubeProxyReplacement"] = d.bool(&c.KubeProxyReplacement)
		fields["externalIPs"] = d.bool(&c.ExternalIPs)
		fields["tunnel"] = d.tunnel(&c.Tunnel)
	}
	d.mapping(doc.Content[0], "", fields)
	c.setDefaults()
	return c
}

// clusterFields are those that a node of a cluster has alone.
var clusterFields = []string{"kubeProxyReplacement", "externalIPs", "tunnel"}

func (d *decoder) connections(c *Connections) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		const most = 1 << 26
		d.mapping(n, path, map[string]func(*yaml.Node, string){
			"max":        integer(d, &c.Max, 1024, most),
			"maxPerPort": integer(d, &c.MaxPerPort, 16, most),
			"timeouts": func(n *yaml.Node, path string) {
				t := &c.Timeouts
				seconds := func(v *time.Duration) func(*yaml.Node, string) {
					return d.duration(v, time.Second, 12*24*time.Hour)
				}
				d.mapping(n, path, map[string]func(*yaml.Node, string){
					"tcpEstablished": seconds(&t.TCPEstablished),
					"tcpOpening":     seconds(&t.TCPOpening),
					"tcpClosing":     seconds(&t.TCPClosing),
					"udp":            seconds(&t.UDP),
					"udpStream":      seconds(&t.UDPStream),
					"icmp":           seconds(&t.ICMP),
					"other":          seconds(&t.Other),
					"fragment":       seconds(&t.Fragment),
				})
			},
		})
	}
}

func (d *decoder) installCNI(c **InstallCNI) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		i := &InstallCNI{}
		*c = i
		d.mapping(n, path, map[string]func(*yaml.Node, string){
			"binDir":       d.string(&i.BinDir),
			"confDir":      d.string(&i.ConfDir),
			"network":      d.string(&i.Network),
			"file":         d.string(&i.File),
			"portMappings": d.bool(&i.PortMappings),
		})
	}
}

func (d *decoder) tunnel(c **Tunnel) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		t := &Tunnel{}
		*c = t
		d.mapping(n, path, map[string]func(*yaml.Node, string){
			"vni":  integer(d, &t.VNI, 1, 1<<24-1),
			"port": integer(d, &t.Port, 1, 65535),
		})
	}
}

func (d *decoder) metrics(c **Metrics) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		m := &Metrics{}
		*c = m
		d.mapping(n, path, map[string]func(*yaml.Node, string){
			"address": d.string(&m.Address),
			"perPod":  d.bool(&m.PerPod),
		})
	}
}

// mapping decodes each field of n by its function in fields.
func (d *decoder) mapping(n *yaml.Node, path string, fields map[string]func(*yaml.Node, string)) {
	n = target(n)
	if n.Kind != yaml.MappingNode {
		d.lines[path] = n.Line
		d.add(path, "found %s; expected fields, one a line, such as %s", shape(n), slices.Min(slices.Collect(maps.Keys(fields)))+": ...")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		field := key.Value
		if path != "" {
			field = path + "." + field
		}
		if first, ok := seen[key.Value]; ok {
			d.mistakes = append(d.mistakes, Mistake{d.file, key.Line, field, fmt.Sprintf("given a second time (first on line %d); remove one", first)})
			continue
		}
		seen[key.Value] = key.Line
		d.lines[field] = key.Line
		f, ok := fields[key.Value]
		if !ok && path == "" && !d.cluster && slices.Contains(clusterFields, key.Value) {
			d.add(field, "is for nodes of a cluster; remove it, or start the agent without --standalone")
			continue
		}
		if !ok {
			d.add(field, "unknown field; %s", suggestion(key.Value, slices.Sorted(maps.Keys(fields))))
			continue
		}
		f(value, field)
	}
}

// suggestion names the field that was meant, or all there are.
func suggestion(got string, known []string) string {
	for _, k := range known {
		if strings.EqualFold(got, k) || strings.EqualFold(got+"s", k) || strings.EqualFold(got, k+"s") {
			return "did you mean " + k + "?"
		}
	}
	return "the fields here are " + strings.Join(known, ", ")
}

func list[T any](d *decoder, out *[]T, item func(string) (T, string)) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		n = target(n)
		if n.Kind != yaml.SequenceNode {
			d.add(path, "found %s; expected a list: [a, b], or one entry a line after a dash", shape(n))
			return
		}
		for i, e := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			d.lines[at] = e.Line
			s, ok := d.text(e, at)
			if !ok {
				continue
			}
			v, wrong := item(s)
			if wrong != "" {
				d.add(at, "%s", wrong)
				continue
			}
			*out = append(*out, v)
		}
	}
}

func (d *decoder) prefix(s string) (netip.Prefix, string) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil && !strings.Contains(s, "/"):
		return p, fmt.Sprintf("%q has no prefix length; expected a CIDR such as 10.244.0.0/24 or fd00:10:244::/64", s)
	case err != nil || p.Addr().Is4In6():
		return p, fmt.Sprintf("%q is not a CIDR; expected one such as 10.244.0.0/24 or fd00:10:244::/64", s)
	case p != p.Masked():
		return p, fmt.Sprintf("%s has bits set after the prefix length; write %s", s, p.Masked())
	}
	return p, ""
}

func (d *decoder) addr(s string) (netip.Addr, string) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return a, fmt.Sprintf("%q is not an address; expected one such as 10.244.0.1 or fd00:10:244::1, without prefix length", s)
	}
	return a, ""
}

func (d *decoder) string(out *string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if s, ok := d.text(n, path); ok {
			if s == "" {
				d.add(path, "is empty; give it a value or remove the line")
			}
			*out = s
		}
	}
}

func (d *decoder) bool(out *bool) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		n = target(n)
		if n.ShortTag() != "!!bool" || n.Decode(out) != nil {
			d.add(path, "found %s; expected true or false", shape(n))
		}
	}
}

func integer[T int | uint16 | uint32](d *decoder, out *T, least, most int64) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		n = target(n)
		var v int64
		if n.ShortTag() != "!!int" || n.Decode(&v) != nil || v < least || v > most {
			d.add(path, "found %s; expected a number from %d to %d", shape(n), least, most)
			return
		}
		*out = T(v)
	}
}

func (d *decoder) duration(out *time.Duration, least, most time.Duration) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		n = target(n)
		v, err := time.ParseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil {
			d.add(path, "found %s; expected a time with unit, such as 90s or 5m", shape(n))
			return
		}
		if v < least || v > most || v%time.Second != 0 {
			d.add(path, "found %s; expected whole seconds, from %s to %s", v, least, most)
			return
		}
		*out = v
	}
}

// text is the value of a scalar that is written as text: a number or null
// where text is expected is a mistake, not a string.
func (d *decoder) text(n *yaml.Node, path string) (string, bool) {
	n = target(n)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		d.add(path, "found %s; expected text", shape(n))
		return "", false
	}
	return n.Value, true
}

func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// shape says what a node is, for people.
func shape(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a group of fields"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.ShortTag() == "!!null":
		return "nothing"
	case len(n.Value) > 64:
		return strconv.Quote(n.Value[:64]) + "..."
	}
	return strconv.Quote(n.Value)
}
