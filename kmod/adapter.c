// SPDX-License-Identifier: GPL-2.0
/* A NIC with any driver: what is ours is taken from the host's receive path. */
#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netdevice.h>
#include <net/ip.h>

#include "compat.h"
#include "nic.h"
#include "packet.h"

/* Padding of short frames is no part of the packet. */
static bool netio_adapter_trim(struct sk_buff *skb, const u8 *l3)
{
	u32 len = skb->len;

	if (l3[0] >> 4 == 4)
		len = ntohs(((const struct iphdr *)l3)->tot_len);
	else if (((const struct ipv6hdr *)l3)->payload_len)
		len = sizeof(struct ipv6hdr) +
		      ntohs(((const struct ipv6hdr *)l3)->payload_len);
	/* 0 is that of the largest packets; one that is cut off is no packet. */
	if (!len || len == skb->len)
		return true;
	return len < skb->len && !skb_is_gso(skb) && !pskb_trim_rcsum(skb, len);
}

static rx_handler_result_t netio_adapter_receive(struct sk_buff **pskb)
{
	/* Up to the type of an ICMPv6 message. */
	u8 space[sizeof(struct ipv6hdr) + 4];
	struct sk_buff *skb = *pskb;
	struct netio_nic *nic = rcu_dereference(skb->dev->rx_handler_data);
	u32 len = min_t(u32, skb->len, sizeof(space));
	const u8 *l3;

	if (skb->pkt_type != PACKET_HOST || skb_vlan_tag_present(skb) ||
	    (skb->protocol != htons(ETH_P_IP) && skb->protocol != htons(ETH_P_IPV6)))
		return RX_HANDLER_PASS;
	l3 = skb_header_pointer(skb, 0, len, space);
	if (!l3 || !netio_steer_ours(rcu_dereference(nic->steer), l3, len))
		return RX_HANDLER_PASS;
	memcpy(space, l3, len);
	skb = skb_share_check(skb, GFP_ATOMIC);
	if (!skb)
		return RX_HANDLER_CONSUMED;
	/* Pages that a sender lent must not wait for a process. */
	if (unlikely(skb_orphan_frags_rx(skb, GFP_ATOMIC) ||
		     !netio_adapter_trim(skb, space))) {
		netio_iface_rx_drop(&nic->iface, skb->len, NETIO_DROP_RX_NO_PACKET);
		kfree_skb(skb);
		return RX_HANDLER_CONSUMED;
	}
	skb_forward_csum(skb);
	netio_iface_receive(&nic->iface, skb);
	return RX_HANDLER_CONSUMED;
}

int netio_adapter_start(struct netio_nic *nic)
{
	/* What a NIC has joined by itself cannot be sent on as it came. */
	dev_disable_lro(nic->dev);
	return netdev_rx_handler_register(nic->dev, netio_adapter_receive, nic);
}

void netio_adapter_stop(struct netio_nic *nic)
{
	netdev_rx_handler_unregister(nic->dev);
}
