/* SPDX-License-Identifier: GPL-2.0 */
/* What a packet has to be like so that the kernel can segment it. */
#ifndef NETIO_GSO_H
#define NETIO_GSO_H

#include <linux/skbuff.h>

/*
 * Where the IP packet at l3 of an skb has its transport header, and of which
 * protocol that is. 0: it has none, is a fragment, or the header begins behind
 * the linear part.
 */
u32 netio_l4_offset(const struct sk_buff *skb, u32 l3, u8 *proto);

/*
 * Whether the packet at l3 can be segmented as gso_type says: its headers are of that
 * kind and in the linear part, and the checksum to be completed is that of its
 * transport header. Some kernels take the process's word for it, and stop.
 */
bool netio_gso_headers_ok(const struct sk_buff *skb, u32 l3, u8 gso_type);

#endif /* NETIO_GSO_H */
