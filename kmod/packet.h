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
 * The usual case of netio_packet_send(): one nbuf, whose packet comes back in the size
 * and with the offloads that it came with, is not segmented and shared with nobody.
 * NULL: it is not that, and nothing has been done.
 */
static __always_inline struct sk_buff *
netio_packet_back(struct netio_instance *inst, struct netio_nb *nb, u32 *eport)
{
	const struct netio_nbuf *h = nb->buf;
	u16 flags = READ_ONCE(h->flags);
	struct sk_buff *skb = nb->skb;
	u32 copied = nb->copied;

	if (unlikely(!skb || skb_is_gso(skb) || skb_cloned(skb) ||
		     READ_ONCE(h->off) != NETIO_NBUF_DATA || READ_ONCE(h->len) != copied ||
		     READ_ONCE(h->total) != skb->len || READ_ONCE(h->hdr_len) > copied ||
		     READ_ONCE(h->gso_type) || READ_ONCE(h->gso_size) || READ_ONCE(h->encap) ||
		     !(flags & NETIO_NB_PARKED) != (skb->len == copied)))
		return NULL;
	if (flags & NETIO_NB_CSUM_PARTIAL &&
	    unlikely(skb->ip_summed != CHECKSUM_PARTIAL ||
		     READ_ONCE(h->csum_offset) != skb->csum_offset ||
		     READ_ONCE(h->csum_start) != skb_checksum_start_offset(skb)))
		return NULL;
	*eport = READ_ONCE(h->eport);
	if (unlikely(*eport >= inst->port_max))
		return NULL;
	netio_nb_detach(inst, nb);
	if (!(flags & NETIO_NB_DIRTY))
		return skb;
	memcpy(skb->data, (const u8 *)h + NETIO_NBUF_DATA, copied);
	skb_clear_hash(skb);
	if (flags & NETIO_NB_CSUM_PARTIAL)
		return skb;
	skb->ip_summed = flags & NETIO_NB_CSUM_VALID ? CHECKSUM_UNNECESSARY : CHECKSUM_NONE;
	skb->csum_level = 0;
	return skb;
}

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
