// SPDX-License-Identifier: GPL-2.0
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netio.h>
#include <linux/udp.h>
#include <net/ip.h>

#include "compat.h"
#include "gso.h"
#include "tunnel.h"

/* Of UDP, VXLAN (RFC 7348) and Ethernet: what lies between the IP headers. */
#define NETIO_TUNNEL_BETWEEN	(sizeof(struct udphdr) + 8 + ETH_HLEN)

/* Where UDP's header is in the tunnel's, or 0 if these are others. */
static u32 netio_tunnel_outer(const u8 *b, u32 encap)
{
	u32 udp = encap - NETIO_TUNNEL_BETWEEN;

	BUILD_BUG_ON(NETIO_ENCAP_MAX != sizeof(struct ipv6hdr) + NETIO_TUNNEL_BETWEEN);
	switch (udp) {
	case sizeof(struct iphdr):
		if (b[0] != 0x45 || b[offsetof(struct iphdr, protocol)] != IPPROTO_UDP ||
		    get_unaligned_be16(b + offsetof(struct iphdr, frag_off)) &
			    (IP_MF | IP_OFFSET))
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

bool netio_tunnel_set(struct sk_buff *skb, u32 encap, u8 gso_type)
{
	const u8 *inner = skb->data + encap;
	u32 udp, l4;
	u16 ether;
	u8 proto;

	if (skb->ip_summed != CHECKSUM_PARTIAL ||
	    encap + sizeof(struct iphdr) > skb_headlen(skb))
		return false;
	udp = netio_tunnel_outer(skb->data, encap);
	l4 = netio_l4_offset(skb, encap, &proto);
	if (!udp || !l4 || l4 != skb_checksum_start_offset(skb))
		return false;
	ether = inner[0] >> 4 == 4 ? ETH_P_IP : ETH_P_IPV6;
	if (get_unaligned_be16(inner - sizeof(__be16)) != ether)
		return false;
	/* The tunnel's own headers have to say how long the packet is. */
	if (gso_type && (skb->len > IP_MAX_MTU ||
			 !netio_gso_headers_ok(skb, encap, gso_type)))
		return false;
	skb_set_transport_header(skb, udp);
	skb_set_inner_protocol(skb, htons(ETH_P_TEB));
	skb_set_inner_mac_header(skb, encap - ETH_HLEN);
	skb_set_inner_network_header(skb, encap);
	skb_set_inner_transport_header(skb, l4);
	skb->encapsulation = 1;
	return true;
}
