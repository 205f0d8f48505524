// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tunnel is the name of the chain in which tunnels' packets are told from others.
const tunnel = "tunnel"

// tunnelChains lead what other hosts' forwarders have sent to this one's. Before the
// connection table: it would keep an entry for each of the tunnels' source ports.
// Other networks' packets at the same UDP port are left alone.
func tunnelChains(c Config) []natChain {
	t := c.Tunnel
	if t == nil {
		return nil
	}
	chain := natChain{name: tunnel, kind: nftables.ChainTypeFilter, hook: nftables.ChainHookPrerouting, priority: nftables.ChainPriorityRaw}
	port, matchPort := matchUDP(t.Port)
	ours, match := matchInterface(expr.MetaKeyIIFNAME, expr.CmpOpEq, c.IfName)
	chain.rules = append(chain.rules, natRule{text: ours + " " + port + " notrack", exprs: append(append(match, matchPort...), &expr.Notrack{})})
	for _, a := range t.Addresses {
		to, ok := ofFamily(t.Received, a.Is6())
		if !ok {
			continue
		}
		iface, exprs := matchInterface(expr.MetaKeyIIFNAME, expr.CmpOpNeq, c.IfName)
		dst, matchDst := matchAddr(netip.PrefixFrom(a, a.BitLen()), false)
		_, matchPort := matchUDP(t.Port)
		exprs = append(append(exprs, matchDst...), matchPort...)
		exprs = append(exprs,
			// The VNI of RFC 7348, behind the UDP header.
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 12, Len: 3},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint32(nil, t.VNI)[1:]},
			&expr.Notrack{},
			&expr.Immediate{Register: 1, Data: to.AsSlice()},
			setDestination(to))
		chain.rules = append(chain.rules, natRule{text: fmt.Sprintf("%s %s %s @th,96,24 %d notrack daddr set %s", iface, dst, port, t.VNI, to), exprs: exprs})
	}
	return []natChain{chain}
}

// setDestination writes register 1 to where a packet's destination is, and mends the
// checksums that count it.
func setDestination(a netip.Addr) expr.Any {
	set := &expr.Payload{
		OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16,
		CsumFlags: unix.NFT_PAYLOAD_L4CSUM_PSEUDOHDR,
	}
	if a.Is4() {
		set.Offset, set.Len = 16, 4
		set.CsumType, set.CsumOffset = expr.CsumTypeInet, 10
	}
	return set
}

func matchUDP(port uint16) (text string, exprs []expr.Any) {
	return fmt.Sprintf("udp dport %d", port), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, port)},
	}
}
