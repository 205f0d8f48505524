/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Packets between skbs and nbufs. All of it with softirqs off.
 */
#ifndef NETIO_PACKET_H
#define NETIO_PACKET_H

#include "iface.h"
#include "nbuf.h"

struct netio_frame;

/*
 * Puts a packet that came by iface on an InQ: its headers into an nbuf, the rest
 * parked, or all of it into a chain. ENOBUFS: no nbuf, no quota, or no room to
 * park; the skb is still the caller's. EINVAL: not a packet. On success it must
 * not be touched any more.
 */
int netio_packet_receive(struct netio_iface *iface, struct sk_buff *skb);

/*
 * Takes a packet that comes in by the interface, with its L3 header at
 * skb->data and no MAC header. It is on an InQ, in the backlog, or dropped and
 * counted afterwards. Softirqs are off.
 */
static inline void netio_iface_receive(struct netio_iface *iface, struct sk_buff *skb)
{
	int err = -ENOBUFS; /* no packet may overtake */

	if (likely(!READ_ONCE(iface->backlogged)))
		err = netio_packet_receive(iface, skb);
	if (unlikely(err))
		netio_iface_refused(iface, skb, err);
}

/*
 * The packet that the process hands in with nbufs of the device, as an skb with
 * its L3 header at skb->data. The nbufs keep what they have with clone, else
 * they are empty afterwards. ERR_PTR: EINVAL if what the process wrote is wrong,
 * ENOMEM. *eport is where the packet goes.
 */
struct sk_buff *netio_packet_send(struct netio_lane *lane, const u32 *idx,
				  u32 n, bool clone, u32 *eport);

/*
 * What the process says of a packet in n nbufs of the device, without anything
 * parked: false if that is wrong, or not so.
 */
bool netio_packet_frame(struct netio_lane *lane, const u32 *idx, u32 n,
			u32 *eport, struct netio_frame *f);

/*
 * Puts a packet in nbufs of the device on an InQ, with its L3 header at the
 * first byte. ENOBUFS: no quota; EINVAL: not a packet; the nbufs are the
 * caller's then.
 */
int netio_packet_give(struct netio_iface *iface, const struct netio_frame *f);

/* The header of an nbuf without a packet. The scratch words stay. */
void netio_packet_clear(struct netio_nbuf *h);

/* FETCH: answers with a chain, or still parked if nbufs or memory are short. */
void netio_packet_fetch(struct netio_lane *lane, u32 idx);

#endif /* NETIO_PACKET_H */
