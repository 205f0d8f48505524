// SPDX-License-Identifier: GPL-2.0
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netio.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/ip.h>

#include "compat.h"
#include "tunnel.h"

/* Of UDP, VXLAN (RFC 7348) and Ethernet: what lies between the IP headers. */
#define NETIO_TUNNEL_BETWEEN	(sizeof(struct udphdr) + 8 + ETH_HLEN)

static bool netio_is_fragment(const u8 *ip)
{
	return get_unaligned_be16(ip + offsetof(struct iphdr, frag_off)) &
	       (IP_MF | IP_OFFSET);
}

/* Where UDP's header is in the tunnel's, or 0 if these are others. */
static u32 netio_tunnel_outer(const u8 *b, u32 encap)
{
	u32 udp = encap - NETIO_TUNNEL_BETWEEN;

	BUILD_BUG_ON(NETIO_ENCAP_MAX != sizeof(struct ipv6hdr) + NETIO_TUNNEL_BETWEEN);
	switch (udp) {
	case sizeof(struct iphdr):
		if (b[0] != 0x45 || netio_is_fragment(b) ||
		    b[offsetof(struct iphdr, protocol)] != IPPROTO_UDP)
			return 0;
		break;
	case sizeof(struct ipv6hdr):
		if (b[0] >> 4 != 6 || b[offsetof(struct ipv6hdr, nexthdr)] != IPPROTO_UDP)
			return 0;
		break;
	default:
		return 0;
	}
	/* Segments have it as it is. */
	return get_unaligned_be16(b + udp + offsetof(struct udphdr, check)) ? 0 : udp;
}

/* Whether an IP packet has its transport header at l4, and which protocol's. */
static bool netio_tunnel_inner(const u8 *b, u32 l4, u16 ether, u8 *proto)
{
	if (b[0] >> 4 == 4) {
		*proto = b[offsetof(struct iphdr, protocol)];
		return ether == ETH_P_IP && l4 == (b[0] & 15) * 4 && !netio_is_fragment(b);
	}
	if (b[0] >> 4 != 6 || ether != ETH_P_IPV6)
		return false;
	*proto = b[offsetof(struct ipv6hdr, nexthdr)];
	if (*proto == IPPROTO_TCP || *proto == IPPROTO_UDP)
		return l4 == sizeof(struct ipv6hdr);
	/* Behind other headers, which are gone through again by who segments it. */
	*proto = IPPROTO_NONE;
	return l4 > sizeof(struct ipv6hdr);
}

/* Whether a packet of that kind can be segmented as gso_type says. */
static bool netio_tunnel_gso(const struct sk_buff *skb, const u8 *inner, u8 proto,
			     u32 l4, u8 gso_type)
{
	u8 want = IPPROTO_TCP;
	u32 len, version;

	switch (gso_type & ~NETIO_GSO_ECN) {
	case NETIO_GSO_TCPV4:
		version = 4;
		break;
	case NETIO_GSO_TCPV6:
		version = 6;
		break;
	default:
		version = inner[0] >> 4;
		want = IPPROTO_UDP;
	}
	if (inner[0] >> 4 != version || (proto != want && proto != IPPROTO_NONE))
		return false;
	if (want == IPPROTO_UDP)
		return l4 + sizeof(struct udphdr) <= skb_headlen(skb);
	if (l4 + sizeof(struct tcphdr) > skb_headlen(skb))
		return false;
	len = (skb->data[l4 + 12] >> 4) * 4;
	return len >= sizeof(struct tcphdr) && l4 + len <= skb_headlen(skb);
}

bool netio_tunnel_set(struct sk_buff *skb, u32 encap, u8 gso_type)
{
	const u8 *b = skb->data, *inner = b + encap;
	u32 udp, l4;
	u8 proto;

	if (skb->ip_summed != CHECKSUM_PARTIAL)
		return false;
	l4 = skb_checksum_start_offset(skb);
	if (l4 > skb_headlen(skb) || l4 < encap + sizeof(struct iphdr))
		return false;
	udp = netio_tunnel_outer(b, encap);
	if (!udp || !netio_tunnel_inner(inner, l4 - encap,
					get_unaligned_be16(inner - sizeof(__be16)), &proto))
		return false;
	/* The tunnel's own headers have to say how long the packet is. */
	if (gso_type && (skb->len > IP_MAX_MTU ||
			 !netio_tunnel_gso(skb, inner, proto, l4, gso_type)))
		return false;
	skb_set_transport_header(skb, udp);
	skb_set_inner_protocol(skb, htons(ETH_P_TEB));
	skb_set_inner_mac_header(skb, encap - ETH_HLEN);
	skb_set_inner_network_header(skb, encap);
	skb_set_inner_transport_header(skb, l4);
	skb->encapsulation = 1;
	return true;
}
