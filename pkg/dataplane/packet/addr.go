// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"net/netip"
)

// Addr is an IP address as two host-order words of its 16 network-order
// bytes. IPv4 addresses have their IPv4-mapped form (::ffff:a.b.c.d), which
// Parse refuses in IPv6 headers, so equal Addrs are the same address. Addr is
// comparable with == and good for hashing word by word. The zero value is ::.
type Addr struct {
	Hi, Lo uint64
}

const mapped4 = 0xffff << 32 // Lo of ::ffff:0.0.0.0

// Addr4 returns the IPv4 address with the given host-order value.
func Addr4(v uint32) Addr { return Addr{0, mapped4 | uint64(v)} }

// AddrFrom converts; IPv4 and IPv4-mapped addresses become the same Addr. A
// zone is dropped and the invalid netip.Addr becomes ::.
func AddrFrom(a netip.Addr) Addr {
	if !a.IsValid() {
		return Addr{}
	}
	b := a.As16()
	return addr16(b[:])
}

// addr16 reads an IPv6 address.
func addr16(b []byte) Addr {
	_ = b[15]
	return Addr{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

// put16 writes an IPv6 address.
func (a Addr) put16(b []byte) {
	_ = b[15]
	binary.BigEndian.PutUint64(b, a.Hi)
	binary.BigEndian.PutUint64(b[8:], a.Lo)
}

// Is4 tells whether the address is IPv4.
func (a Addr) Is4() bool { return a.Hi == 0 && a.Lo>>32 == 0xffff }

// V4 returns the host-order value of an IPv4 address.
func (a Addr) V4() uint32 { return uint32(a.Lo) }

// As16 returns the 16 bytes in network order, IPv4-mapped for IPv4.
func (a Addr) As16() (b [16]byte) {
	a.put16(b[:])
	return b
}

// Netip converts; IPv4 addresses come out as such, not IPv4-mapped.
func (a Addr) Netip() netip.Addr {
	if a.Is4() {
		return netip.AddrFrom4([4]byte{byte(a.Lo >> 24), byte(a.Lo >> 16), byte(a.Lo >> 8), byte(a.Lo)})
	}
	return netip.AddrFrom16(a.As16())
}

// String returns the address's usual text form.
func (a Addr) String() string { return a.Netip().String() }

// IsUnspecified tells whether the address is :: or in 0.0.0.0/8 ("this network").
func (a Addr) IsUnspecified() bool {
	return a == Addr{} || a.Is4() && a.V4()>>24 == 0
}

// IsLoopback tells whether the address is ::1 or in 127.0.0.0/8.
func (a Addr) IsLoopback() bool {
	return a == Addr{0, 1} || a.Is4() && a.V4()>>24 == 127
}

// IsMulticast tells whether the address is in ff00::/8 or 224.0.0.0/4.
func (a Addr) IsMulticast() bool {
	return a.Hi>>56 == 0xff || a.Is4() && a.V4()>>28 == 0xe
}

// IsReserved4 tells whether the address is in 240.0.0.0/4, which has the
// limited broadcast address.
func (a Addr) IsReserved4() bool { return a.Is4() && a.V4()>>28 == 0xf }

// IsLinkLocal tells whether the address is in fe80::/10 or 169.254.0.0/16.
func (a Addr) IsLinkLocal() bool {
	return a.Hi>>54 == 0xfe80>>6 || a.Is4() && a.V4()>>16 == 0xa9fe
}

// IsUnicast tells whether the address may be the source of a packet that
// crosses a router: not unspecified, loopback, multicast or reserved (RFC
// 1812 section 5.3.7, RFC 4291 section 2.5).
func (a Addr) IsUnicast() bool {
	return !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsReserved4()
}
