/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Packets that begin with the headers of a tunnel: encap of struct netio_nbuf.
 *
 *	skb->data   transport    inner mac  inner network  inner transport
 *	|           |            |          |              |
 *	| IPv4/IPv6 | UDP, VXLAN | Ethernet | IPv4/IPv6    | TCP, UDP ...
 *	|<----------- encap --------------->|
 *	|<----------------- csum_start ------------------->|
 */
#ifndef NETIO_TUNNEL_H
#define NETIO_TUNNEL_H

#include <linux/skbuff.h>

/*
 * Tells the kernel and NICs where the headers of a tunnel at skb->data end, so that
 * they complete the inner packet's checksum and segment the inner packet. What is
 * checked is the linear part, which no process can write; the checksum to be
 * completed is known already. gso_type is what the process says of the packet.
 * False if the headers are no tunnel's, with such a packet in it: the skb is then
 * as before.
 */
bool netio_tunnel_set(struct sk_buff *skb, u32 encap, u8 gso_type);

#endif /* NETIO_TUNNEL_H */
