// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// Names in nftables. The table is ours alone: it is replaced whole.
const (
	tableName   = "netio"
	postrouting = "postrouting"
	world       = "world"
	prerouting  = "prerouting"
	output      = "output"
	nodePorts   = "node-ports"
)

// natChain is a chain, with the hook that it is at, if it is at one.
type natChain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority *nftables.ChainPriority
	rules    []natRule
}

// natRule is a rule and what it says, which is its comment in the kernel too:
// two rules with one text are equal.
type natRule struct {
	text  string
	exprs []expr.Any
	// ports are what the destination port is looked up in, before last; nil: none.
	ports []uint16
	last  []expr.Any
}

// natChains are the chains of the table, as `nft list table inet netio` shows them,
// in an order in which a rule names a chain before it:
//
//	chain world {                       the exceptions, then masquerade
//		ip daddr 224.0.0.0/4 return
//		masquerade
//	}
//	chain postrouting {
//		type nat hook postrouting priority srcnat;
//		ip saddr 10.244.0.2/32 oifname != "netio0" masquerade
//		ip saddr 10.244.0.0/24 oifname != "netio0" goto world
//	}
//	chain node-ports {                  the destination that netio0 has
//		meta nfproto ipv4 tcp dport { 30080, 30443 } dnat ip to 10.244.0.2
//	}
//	chain prerouting {                  what comes from the world
//		type nat hook prerouting priority dstnat;
//		iifname != "netio0" fib daddr type local goto node-ports
//	}
//	chain output {                      what the host sends
//		type nat hook output priority dstnat;
//		ip daddr 127.0.0.0/8 return
//		fib daddr type local goto node-ports
//	}
//	chain tunnel {                      the destination that netio0 has
//		type filter hook prerouting priority raw;
//		iifname "netio0" udp dport 4789 notrack
//		iifname != "netio0" ip daddr 192.0.2.1 udp dport 4789 @th,96,24 9617 notrack ip daddr set 10.244.0.2
//	}
func natChains(c Config) []natChain {
	var chains []natChain
	post := natChain{name: postrouting, kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPostrouting, priority: nftables.ChainPriorityNATSource}
	leaving, match := matchInterface(expr.MetaKeyOIFNAME, expr.CmpOpNeq, c.IfName)
	// A service's backend elsewhere sees the node, whatever the forwarder had to
	// make the source.
	for _, a := range c.Services.Sources {
		text, exprs := matchAddr(netip.PrefixFrom(a, a.BitLen()), true)
		post.rules = append(post.rules, natRule{text: text + " " + leaving + " masquerade", exprs: slices.Concat(exprs, match, []expr.Any{&expr.Masq{}})})
	}
	if c.Masquerade {
		chains = append(chains, worldChain(c))
		for _, p := range c.Pods {
			text, exprs := matchAddr(p, true)
			post.rules = append(post.rules, natRule{
				text:  text + " " + leaving + " goto world",
				exprs: slices.Concat(exprs, match, []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: world}}),
			})
		}
	}
	if len(post.rules) > 0 {
		chains = append(chains, post)
	}
	return slices.Concat(chains, nodePortChains(c), tunnelChains(c))
}

func worldChain(c Config) natChain {
	except := append([]netip.Prefix{netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("ff00::/8")}, c.Except...)
	out := natChain{name: world}
	for _, p := range except {
		text, exprs := matchAddr(p, false)
		out.rules = append(out.rules, natRule{text: text + " return", exprs: append(exprs, &expr.Verdict{Kind: expr.VerdictReturn})})
	}
	out.rules = append(out.rules, natRule{text: "masquerade", exprs: []expr.Any{&expr.Masq{}}})
	return out
}

// nodePortChains are none without node ports.
func nodePortChains(c Config) []natChain {
	ports := natChain{name: nodePorts}
	for _, to := range c.Services.Sources {
		for _, p := range []struct {
			name   string
			number byte
			ports  []uint16
		}{{"tcp", unix.IPPROTO_TCP, c.Services.TCP}, {"udp", unix.IPPROTO_UDP, c.Services.UDP}, {"sctp", unix.IPPROTO_SCTP, c.Services.SCTP}} {
			if len(p.ports) == 0 {
				continue
			}
			family, nat, proto := "ipv4", "ip", byte(unix.NFPROTO_IPV4)
			if to.Is6() {
				family, nat, proto = "ipv6", "ip6", unix.NFPROTO_IPV6
			}
			sum := sha256.Sum256(fmt.Append(nil, p.ports))
			ports.rules = append(ports.rules, natRule{
				text: fmt.Sprintf("%s %s: %d ports (%x) dnat %s to %s", family, p.name, len(p.ports), sum[:8], nat, to),
				exprs: []expr.Any{
					&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
					&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
					&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
					&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p.number}},
					// The same place in the headers of RFC 9293, RFC 768 and RFC 9260.
					&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
				},
				ports: p.ports,
				last: []expr.Any{
					&expr.Immediate{Register: 1, Data: to.AsSlice()},
					&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(proto), RegAddrMin: 1},
				},
			})
		}
	}
	if len(ports.rules) == 0 {
		return nil
	}
	local := []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)},
		&expr.Verdict{Kind: expr.VerdictGoto, Chain: nodePorts},
	}
	in := natChain{name: prerouting, kind: nftables.ChainTypeNAT, hook: nftables.ChainHookPrerouting, priority: nftables.ChainPriorityNATDest}
	iface, match := matchInterface(expr.MetaKeyIIFNAME, expr.CmpOpNeq, c.IfName)
	in.rules = []natRule{{text: iface + " fib daddr type local goto node-ports", exprs: append(match, local...)}}

	// A connection to a loopback address comes from one, which no packet leaves the
	// host with.
	out := natChain{name: output, kind: nftables.ChainTypeNAT, hook: nftables.ChainHookOutput, priority: nftables.ChainPriorityNATDest}
	for _, p := range []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")} {
		text, match := matchAddr(p, false)
		out.rules = append(out.rules, natRule{text: text + " return", exprs: append(match, &expr.Verdict{Kind: expr.VerdictReturn})})
	}
	out.rules = append(out.rules, natRule{text: "fib daddr type local goto node-ports", exprs: local})
	return []natChain{ports, in, out}
}

// matchInterface matches packets by the name of an interface.
func matchInterface(key expr.MetaKey, op expr.CmpOp, ifname string) (text string, exprs []expr.Any) {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, ifname)
	what := map[expr.MetaKey]string{expr.MetaKeyIIFNAME: "iifname", expr.MetaKeyOIFNAME: "oifname"}[key]
	if op == expr.CmpOpNeq {
		what += " !="
	}
	return fmt.Sprintf("%s %q", what, ifname), []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: name}}
}

// matchAddr matches packets with a source or destination in p.
func matchAddr(p netip.Prefix, source bool) (text string, exprs []expr.Any) {
	// Offsets of the addresses in the headers of RFC 791 and RFC 8200.
	family, proto, src, dst := "ip", byte(unix.NFPROTO_IPV4), uint32(12), uint32(16)
	if p.Addr().Is6() {
		family, proto, src, dst = "ip6", unix.NFPROTO_IPV6, 8, 24
	}
	field, offset := "daddr", dst
	if source {
		field, offset = "saddr", src
	}
	size := uint32(p.Addr().BitLen() / 8)
	return fmt.Sprintf("%s %s %s", family, field, p), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size,
			Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()), Xor: bytes.Repeat([]byte{0}, int(size))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// reconcileNAT replaces the table in one transaction if it is not as wanted.
func (s *session) reconcileNAT(c Config) error {
	want := natChains(c)
	var opts []nftables.ConnOption
	if s.ns != nil {
		opts = append(opts, nftables.WithNetNSFd(int(s.ns.Fd())))
	}
	conn, err := nftables.New(opts...)
	if err != nil {
		return natError(c, err)
	}
	there, err := hasTable(conn)
	switch {
	case err != nil && len(want) == 0:
		return nil // a kernel without nftables has no table of ours
	case err != nil:
		return natError(c, err)
	case len(want) == 0 && !there:
		return nil
	}
	if len(want) > 0 && there {
		if same, err := sameChains(conn, want); err != nil || same {
			return err
		}
	}
	// Adding before deleting makes the transaction good even if someone has
	// deleted the table meanwhile.
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	conn.AddTable(table)
	conn.DelTable(table)
	if len(want) > 0 {
		if err := addTable(conn, table, want); err != nil {
			return natError(c, err)
		}
	}
	if err := conn.Flush(); err != nil {
		return natError(c, err)
	}
	return nil
}

func addTable(conn *nftables.Conn, table *nftables.Table, chains []natChain) error {
	conn.AddTable(table)
	for _, w := range chains {
		chain := &nftables.Chain{Name: w.name, Table: table}
		if w.hook != nil {
			chain.Type, chain.Hooknum, chain.Priority = w.kind, w.hook, w.priority
		}
		conn.AddChain(chain)
		for _, r := range w.rules {
			exprs := slices.Clone(r.exprs)
			if r.ports != nil {
				set := &nftables.Set{Table: table, Anonymous: true, Constant: true, KeyType: nftables.TypeInetService}
				elements := make([]nftables.SetElement, len(r.ports))
				for i, p := range r.ports {
					elements[i].Key = binary.BigEndian.AppendUint16(nil, p)
				}
				if err := conn.AddSet(set, elements); err != nil {
					return err
				}
				exprs = append(exprs, &expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID})
			}
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(exprs, r.last...),
				UserData: userdata.AppendString(nil, userdata.TypeComment, r.text)})
		}
	}
	return nil
}

func hasTable(conn *nftables.Conn) (bool, error) {
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }), nil
}

// sameChains compares our chains, by the rules' comments, with what is there.
func sameChains(conn *nftables.Conn, want []natChain) (bool, error) {
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list nftables chains: %w", err)
	}
	chains = slices.DeleteFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name != tableName })
	if len(chains) != len(want) {
		return false, nil
	}
	for _, chain := range chains {
		i := slices.IndexFunc(want, func(w natChain) bool { return w.name == chain.Name })
		if i < 0 {
			return false, nil
		}
		rules, err := conn.GetRules(chain.Table, chain)
		if err != nil {
			return false, fmt.Errorf("list nftables rules: %w", err)
		}
		same := slices.EqualFunc(rules, want[i].rules, func(is *nftables.Rule, w natRule) bool {
			text, _ := userdata.GetString(is.UserData, userdata.TypeComment)
			return text == w.text
		})
		if !same {
			return false, nil
		}
	}
	return true, nil
}

func natError(c Config, err error) error {
	if len(natChains(c)) == 0 {
		return fmt.Errorf("remove nftables table inet %s: %w", tableName, err)
	}
	for _, missing := range []error{unix.ENOENT, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EINVAL} {
		if !errors.Is(err, missing) {
			continue
		}
		if c.Masquerade {
			return fmt.Errorf("%w: masquerading needs nf_tables, nft_chain_nat and nft_masq in the kernel (Linux 5.2 or later): load them, or set masquerade to false and route the pods' prefixes yourself (%v)", ErrNoNftables, err)
		}
		return fmt.Errorf("%w: node ports need nf_tables, nft_chain_nat, nft_nat and nft_fib_inet in the kernel (Linux 5.2 or later): load them, or set kubeProxyReplacement to false and run kube-proxy (%v)", ErrNoNftables, err)
	}
	return fmt.Errorf("write nftables table inet %s: %w", tableName, err)
}
