// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"bytes"
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
)

// natRule is a rule and what it says, which is its comment in the kernel too:
// two rules with one text are equal.
type natRule struct {
	text  string
	exprs []expr.Any
}

// natChains are the two chains of the table, as `nft list table inet netio`
// shows them:
//
//	chain world {                       the exceptions, then masquerade
//		ip daddr 224.0.0.0/4 return
//		masquerade
//	}
//	chain postrouting {
//		type nat hook postrouting priority srcnat;
//		ip saddr 10.244.0.0/24 oifname != "netio0" goto world
//	}
func natChains(c Config) map[string][]natRule {
	except := append([]netip.Prefix{netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("ff00::/8")}, c.Except...)
	chains := map[string][]natRule{}
	for _, p := range except {
		text, exprs := matchAddr(p, false)
		chains[world] = append(chains[world], natRule{text + " return", append(exprs, &expr.Verdict{Kind: expr.VerdictReturn})})
	}
	chains[world] = append(chains[world], natRule{"masquerade", []expr.Any{&expr.Masq{}}})
	for _, p := range c.Pods {
		text, exprs := matchAddr(p, true)
		name := make([]byte, unix.IFNAMSIZ)
		copy(name, c.IfName)
		chains[postrouting] = append(chains[postrouting], natRule{
			fmt.Sprintf("%s oifname != %q goto world", text, c.IfName),
			append(exprs,
				&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
				&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: name},
				&expr.Verdict{Kind: expr.VerdictGoto, Chain: world}),
		})
	}
	return chains
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
	case err != nil && !c.Masquerade:
		return nil // a kernel without nftables has no table of ours
	case err != nil:
		return natError(c, err)
	case !c.Masquerade && !there:
		return nil
	}
	if c.Masquerade && there {
		if same, err := sameChains(conn, natChains(c)); err != nil || same {
			return err
		}
	}
	// Adding before deleting makes the transaction good even if someone has
	// deleted the table meanwhile.
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	conn.AddTable(table)
	conn.DelTable(table)
	if c.Masquerade {
		addTable(conn, table, natChains(c))
	}
	if err := conn.Flush(); err != nil {
		return natError(c, err)
	}
	return nil
}

func addTable(conn *nftables.Conn, table *nftables.Table, chains map[string][]natRule) {
	conn.AddTable(table)
	// In this order: a rule can name a chain that is there.
	for _, chain := range []*nftables.Chain{
		{Name: world, Table: table},
		{Name: postrouting, Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource},
	} {
		conn.AddChain(chain)
		for _, r := range chains[chain.Name] {
			conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: r.exprs,
				UserData: userdata.AppendString(nil, userdata.TypeComment, r.text)})
		}
	}
}

func hasTable(conn *nftables.Conn) (bool, error) {
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }), nil
}

// sameChains compares our chains, by the rules' comments, with what is there.
func sameChains(conn *nftables.Conn, want map[string][]natRule) (bool, error) {
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list nftables chains: %w", err)
	}
	chains = slices.DeleteFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name != tableName })
	if len(chains) != len(want) {
		return false, nil
	}
	for _, chain := range chains {
		rules, err := conn.GetRules(chain.Table, chain)
		if err != nil {
			return false, fmt.Errorf("list nftables rules: %w", err)
		}
		same := slices.EqualFunc(rules, want[chain.Name], func(is *nftables.Rule, w natRule) bool {
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
	if !c.Masquerade {
		return fmt.Errorf("remove nftables table inet %s: %w", tableName, err)
	}
	for _, missing := range []error{unix.ENOENT, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EINVAL} {
		if errors.Is(err, missing) {
			return fmt.Errorf("%w: masquerading needs nf_tables, nft_chain_nat and nft_masq in the kernel (Linux 5.2 or later): load them, or set masquerade to false and route the pods' prefixes yourself (%v)", ErrNoNftables, err)
		}
	}
	return fmt.Errorf("write nftables table inet %s: %w", tableName, err)
}
