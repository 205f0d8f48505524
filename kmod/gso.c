// SPDX-License-Identifier: GPL-2.0
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netio.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/ip.h>
#include <net/ipv6.h>

#include "compat.h"
#include "gso.h"

u32 netio_l4_offset(const struct sk_buff *skb, u32 l3, u8 *proto)
{
	const u8 *b = skb->data + l3;
	u32 have = skb_headlen(skb), l4;
	__be16 fragment = 0;
	int off;

	if (have < l3 + sizeof(struct iphdr))
		return 0;
	if (b[0] >> 4 == 4) {
		l4 = (b[0] & 15) * 4;
		*proto = b[offsetof(struct iphdr, protocol)];
		if (l4 < sizeof(struct iphdr) || l3 + l4 > have ||
		    get_unaligned_be16(b + offsetof(struct iphdr, frag_off)) &
			    (IP_MF | IP_OFFSET))
			return 0;
		return l3 + l4;
	}
	if (b[0] >> 4 != 6 || have < l3 + sizeof(struct ipv6hdr))
		return 0;
	*proto = b[offsetof(struct ipv6hdr, nexthdr)];
	off = ipv6_skip_exthdr(skb, l3 + sizeof(struct ipv6hdr), proto, &fragment);
	return off < 0 || off > have || fragment ? 0 : off;
}

bool netio_gso_headers_ok(const struct sk_buff *skb, u32 l3, u8 gso_type)
{
	u32 have = skb_headlen(skb), l4, len;
	u8 proto, version;

	l4 = netio_l4_offset(skb, l3, &proto);
	if (!l4 || skb->ip_summed != CHECKSUM_PARTIAL ||
	    skb_checksum_start_offset(skb) != l4)
		return false;
	version = skb->data[l3] >> 4;
	switch (gso_type & ~NETIO_GSO_ECN) {
	case NETIO_GSO_UDP_L4:
		return proto == IPPROTO_UDP && l4 + sizeof(struct udphdr) <= have;
	case NETIO_GSO_TCPV4:
		if (version != 4)
			return false;
		break;
	case NETIO_GSO_TCPV6:
		if (version != 6)
			return false;
		break;
	default:
		return false;
	}
	if (proto != IPPROTO_TCP || l4 + sizeof(struct tcphdr) > have)
		return false;
	len = (skb->data[l4 + 12] >> 4) * 4;
	return len >= sizeof(struct tcphdr) && l4 + len <= have;
}
