// SPDX-License-Identifier: GPL-2.0
#include <linux/icmp.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/jhash.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/dst.h>
#include <net/ip.h>
#include <net/netfilter/nf_conntrack.h>
#include <net/netio.h>

#include "compat.h"
#include "gso.h"
#include "inq.h"
#include "outq.h"
#include "packet.h"
#include "trace.h"
#include "tunnel.h"

/* UDP_MAX_SEGMENTS of the kernel that has the lowest. */
#define NETIO_UDP_SEGMENTS_MAX	64

/*
 * What of a packet must be in the nbuf. len: its headers, to the end of the L4 header as
 * far as that is TCP or UDP right behind the L3 header; 0: not known, -1: not a packet.
 * copy: as many bytes go there if there are so many.
 */
struct netio_headers {
	int len;
	u32 copy;
};

/* Reads within the linear part. */
static __always_inline struct netio_headers netio_headers_in(const u8 *b, u32 have)
{
	struct netio_headers hdr = { 0, NETIO_PARK_COPY_MIN };
	u8 proto;
	u32 l3;

	if (have < 1)
		return hdr;
	if (b[0] >> 4 == 4) {
		if (have < sizeof(struct iphdr))
			return hdr;
		l3 = (b[0] & 15) * 4;
		proto = b[9];
	} else if (b[0] >> 4 == 6) {
		if (have < sizeof(struct ipv6hdr))
			return hdr;
		l3 = sizeof(struct ipv6hdr);
		proto = b[6];
	} else {
		hdr.len = -1;
		return hdr;
	}
	if (proto == IPPROTO_UDP) {
		hdr.copy = NETIO_PARK_COPY_UDP;
		hdr.len = l3 + sizeof(struct udphdr);
	} else if (proto == IPPROTO_TCP && have >= l3 + sizeof(struct tcphdr)) {
		hdr.len = l3 + (b[l3 + 12] >> 4) * 4;
	}
	return hdr;
}

/* The same of a packet whose headers lie in fragments: what they are is known after. */
static noinline struct netio_headers netio_headers_pull(struct sk_buff *skb)
{
	struct netio_headers hdr = { -1, 0 };

	if (!pskb_may_pull(skb, min_t(u32, skb->len, NETIO_PARK_COPY_UDP)))
		return hdr;
	hdr = netio_headers_in(skb->data, skb_headlen(skb));
	if (hdr.len > (int)skb_headlen(skb))
		hdr.len = 0;
	return hdr;
}

/* The same for both directions of a flow; fragments go by their addresses. */
static u32 netio_flow_hash(const u8 *b, u32 len)
{
	u32 addr, l4 = 0, l3;
	u8 proto;

	if (b[0] >> 4 == 4) {
		const struct iphdr *ip = (const struct iphdr *)b;

		if (len < sizeof(*ip))
			return 0;
		addr = (__force u32)(ip->saddr ^ ip->daddr);
		proto = ip->protocol;
		l3 = ip->frag_off & htons(IP_MF | IP_OFFSET) ? len : ip->ihl * 4;
	} else {
		const struct ipv6hdr *ip = (const struct ipv6hdr *)b;
		int i;

		if (len < sizeof(*ip))
			return 0;
		addr = 0;
		for (i = 0; i < 4; i++)
			addr = jhash_2words(addr,
					    (__force u32)(ip->saddr.s6_addr32[i] ^
							  ip->daddr.s6_addr32[i]), 0);
		proto = ip->nexthdr;
		l3 = sizeof(*ip);
	}
	if ((proto == IPPROTO_TCP || proto == IPPROTO_UDP) && l3 + 4 <= len)
		l4 = (b[l3] << 8 | b[l3 + 1]) ^ (b[l3 + 2] << 8 | b[l3 + 3]);
	return jhash_3words(addr, l4, proto, 0);
}

static u8 netio_gso_type(const struct sk_buff *skb)
{
	unsigned int type = skb_shinfo(skb)->gso_type;
	u8 ecn = type & SKB_GSO_TCP_ECN ? NETIO_GSO_ECN : 0;

	if (type & SKB_GSO_TCPV4)
		return NETIO_GSO_TCPV4 | ecn;
	if (type & SKB_GSO_TCPV6)
		return NETIO_GSO_TCPV6 | ecn;
	return NETIO_GSO_UDP_L4;
}

/* All of bytes 0-63: the process has written there before. */
static __always_inline void netio_describe(struct netio_nbuf *h,
					   const struct sk_buff *skb, u32 port,
					   u32 len, u32 hdr_len, u32 hash,
					   u8 lane, u16 flags, u64 now)
{
	h->iport = port;
	h->eport = 0;
	h->off = NETIO_NBUF_DATA;
	h->len = len;
	h->total = skb->len;
	h->lane = lane;
	h->gso_type = NETIO_GSO_NONE;
	h->gso_size = 0;
	h->hdr_len = hdr_len;
	if (likely(skb->ip_summed == CHECKSUM_PARTIAL)) {
		flags |= NETIO_NB_CSUM_PARTIAL;
		h->csum_start = skb_checksum_start_offset(skb);
		h->csum_offset = skb->csum_offset;
	} else {
		if (skb->ip_summed == CHECKSUM_UNNECESSARY)
			flags |= NETIO_NB_CSUM_VALID;
		h->csum_start = 0;
		h->csum_offset = 0;
	}
	if (skb_is_gso(skb)) {
		h->gso_type = netio_gso_type(skb);
		h->gso_size = skb_shinfo(skb)->gso_size;
	}
	h->hash = hash;
	h->tstamp = now;
	h->mark = skb->mark;
	h->encap = 0;
	h->reserved1 = 0;
	memset(h->reserved, 0, sizeof(h->reserved));
	h->flags = flags;
}

void netio_packet_clear(struct netio_nbuf *h)
{
	memset(h, 0, offsetof(struct netio_nbuf, scratch));
	h->off = NETIO_NBUF_DATA;
}

/* n nbufs, or none. */
static bool netio_nb_alloc_n(struct netio_instance *inst, u32 *idx, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++) {
		idx[i] = netio_nb_alloc(inst);
		if (idx[i] == NETIO_NB_NONE) {
			netio_nb_free(inst, idx, i);
			return false;
		}
	}
	return true;
}

/* Copies the rest of skb from off on into nbufs, room bytes into each. */
static void netio_scatter(struct netio_instance *inst, const struct sk_buff *skb,
			  u32 off, const u32 *idx, u32 n, u32 room)
{
	u32 i, len;

	for (i = 0; i < n; i++) {
		struct netio_nbuf *h = inst->nb[idx[i]].buf;

		len = min(skb->len - off, room);
		skb_copy_bits(skb, off, (u8 *)h + NETIO_NBUF_DATA, len);
		netio_packet_clear(h);
		h->len = len;
		off += len;
	}
}

/* A port that wants its packets whole: all of it is copied. */
static noinline int netio_receive_whole(struct netio_iface *iface,
					struct netio_lane *lane,
					struct sk_buff *skb, u32 hdr_len,
					u32 hash, u16 flags)
{
	struct netio_instance *inst = iface->inst;
	u32 n = DIV_ROUND_UP(skb->len, NETIO_NBUF_FILL), i;
	u32 idx[NETIO_CHAIN_MAX];

	if (n > NETIO_CHAIN_MAX)
		return -EINVAL;
	if (!netio_iface_charge(iface, n, 0))
		return -ENOBUFS;
	if (!netio_nb_alloc_n(inst, idx, n)) {
		netio_iface_uncharge(iface, n, 0);
		return -ENOBUFS;
	}
	netio_scatter(inst, skb, 0, idx, n, NETIO_NBUF_FILL);
	for (i = 0; i < n; i++)
		inst->nb[idx[i]].iport = iface->port;
	netio_describe(inst->nb[idx[0]].buf, skb, iface->port,
		       min_t(u32, skb->len, NETIO_NBUF_FILL), hdr_len, hash,
		       lane->number, flags, netio_clock(inst));
	atomic64_add(skb->len > NETIO_PARK_COPY_MIN ?
		     skb->len - NETIO_PARK_COPY_MIN : 0,
		     (atomic64_t *)&lane->d->copied);
	netio_inq_put(lane, NETIO_IN_RX, idx, n);
	consume_skb(skb);
	return 0;
}

int netio_packet_receive(struct netio_iface *iface, struct sk_buff *skb)
{
	struct netio_instance *inst = iface->inst;
	u32 len = skb->len, copied, parked, idx, hash = 0;
	struct netio_lane *lane = &inst->lanes[0];
	struct netio_headers hdr;
	struct netio_nb *nb;
	u16 flags = 0;

	if (unlikely(!len || len > 0xffff + NETIO_HEADROOM))
		return -EINVAL;
	hdr = netio_headers_in(skb->data, skb_headlen(skb));
	if (unlikely(hdr.len <= 0 || hdr.len > skb_headlen(skb) ||
		     (hdr.copy == NETIO_PARK_COPY_UDP &&
		      skb_headlen(skb) < min(len, hdr.copy)))) {
		if (hdr.len >= 0)
			hdr = netio_headers_pull(skb);
		if (hdr.len < 0)
			return -EINVAL;
	}
	if (unlikely(inst->lane_count > 1)) {
		hash = netio_flow_hash(skb->data, skb_headlen(skb));
		lane = &inst->lanes[reciprocal_scale(hash, inst->lane_count)];
		flags = NETIO_NB_HASH;
	}
	if (unlikely(READ_ONCE(iface->sh->flags) & NETIO_PORT_F_WHOLE)) {
		int err = netio_receive_whole(iface, lane, skb, hdr.len, hash, flags);

		if (err)
			return err;
		goto done;
	}

	copied = min_t(u32, skb_headlen(skb), hdr.copy);
	parked = len - copied;
	if (unlikely(!netio_iface_charge(iface, 1, parked)))
		return -ENOBUFS;
	idx = netio_nb_alloc(inst);
	if (unlikely(idx == NETIO_NB_NONE)) {
		netio_iface_uncharge(iface, 1, parked);
		return -ENOBUFS;
	}
	nb = &inst->nb[idx];
	if (parked)
		flags |= NETIO_NB_PARKED;
	netio_describe(nb->buf, skb, iface->port, copied, hdr.len, hash,
		       lane->number, flags, netio_clock(inst));
	memcpy((u8 *)nb->buf + NETIO_NBUF_DATA, skb->data, copied);
	/* It may stay for long: hold nothing that others wait for. */
	nf_reset_ct(skb);
	skb_dst_drop(skb);
	skb->dev = NULL;
	nb->skb = skb;
	nb->iport = iface->port;
	nb->parked = parked;
	nb->copied = copied;
	netio_inq_put_one(lane, NETIO_IN_RX, nb, idx);
done:
	trace_netio_receive(lane, iface->port, len);
	atomic64_inc((atomic64_t *)&lane->d->rx_packets);
	if (unlikely(atomic_read(&inst->events)))
		netio_inq_events(&inst->lanes[0]);
	netio_inq_wake(lane);
	netio_outq_hint(lane);
	return 0;
}

/* What the process says of a packet, read once. */
struct netio_said {
	u32 eport, total, mark;
	u16 off, len, flags, gso_size, hdr_len, csum_start, csum_offset, encap;
	u8 gso_type;
};

static __always_inline void netio_read(struct netio_said *s, const struct netio_nbuf *h)
{
	s->eport = READ_ONCE(h->eport);
	s->off = READ_ONCE(h->off);
	s->len = READ_ONCE(h->len);
	s->total = READ_ONCE(h->total);
	s->flags = READ_ONCE(h->flags);
	s->gso_type = READ_ONCE(h->gso_type);
	s->gso_size = READ_ONCE(h->gso_size);
	s->hdr_len = READ_ONCE(h->hdr_len);
	s->csum_start = READ_ONCE(h->csum_start);
	s->csum_offset = READ_ONCE(h->csum_offset);
	s->mark = READ_ONCE(h->mark);
	s->encap = READ_ONCE(h->encap);
}

static bool netio_piece_ok(u32 off, u32 len)
{
	return off >= NETIO_NBUF_HDR && len && off + len <= NETIO_NBUF_SIZE;
}

/* What virtio_net_hdr_to_skb() asks of a GSO packet. */
static __always_inline bool netio_gso_ok(const struct netio_said *s)
{
	u32 l4 = sizeof(struct tcphdr);
	u16 check = offsetof(struct tcphdr, check);

	/* Segments without a checksum to complete make no sense. */
	if (!s->gso_size || s->gso_size == GSO_BY_FRAGS ||
	    !(s->flags & NETIO_NB_CSUM_PARTIAL))
		return false;
	switch (s->gso_type) {
	case NETIO_GSO_TCPV4:
	case NETIO_GSO_TCPV4 | NETIO_GSO_ECN:
	case NETIO_GSO_TCPV6:
	case NETIO_GSO_TCPV6 | NETIO_GSO_ECN:
		break;
	case NETIO_GSO_UDP_L4:
		l4 = sizeof(struct udphdr);
		check = offsetof(struct udphdr, check);
		if (s->total > s->csum_start + l4 +
			       (u32)s->gso_size * NETIO_UDP_SEGMENTS_MAX)
			return false;
		break;
	default:
		return false;
	}
	return s->csum_offset == check && s->csum_start + l4 <= s->len;
}

static __always_inline bool netio_offload_ok(const struct netio_said *s)
{
	if (s->flags & NETIO_NB_CSUM_PARTIAL &&
	    (u32)s->csum_start + s->csum_offset + 2 > s->len)
		return false;
	if (s->hdr_len > s->len)
		return false;
	return s->gso_type ? netio_gso_ok(s) : !s->gso_size;
}

/* Whether a GSO packet that has been checked fits into one segment. */
static bool netio_one_segment(const struct sk_buff *skb, const struct netio_said *s)
{
	u32 l4 = sizeof(struct udphdr);

	if (s->gso_type != NETIO_GSO_UDP_L4)
		l4 = (skb->data[s->csum_start + 12] >> 4) * 4;
	return skb->len <= s->csum_start + l4 + s->gso_size;
}

static bool netio_offload(struct sk_buff *skb, const struct netio_said *s)
{
	struct skb_shared_info *sh = skb_shinfo(skb);
	bool tunnel = false;

	skb->ip_summed = CHECKSUM_NONE;
	if (s->flags & NETIO_NB_CSUM_PARTIAL) {
		if (!skb_partial_csum_set(skb, s->csum_start, s->csum_offset))
			return false;
	} else if (s->flags & NETIO_NB_CSUM_VALID) {
		skb->ip_summed = CHECKSUM_UNNECESSARY;
	}
	if (unlikely(s->encap))
		tunnel = netio_tunnel_set(skb, s->encap, s->gso_type);
	if (s->gso_type && !tunnel &&
	    (s->encap || !netio_gso_headers_ok(skb, 0, s->gso_type)))
		return false;
	/* The kernel drops what would be segmented and has one segment. */
	if (!s->gso_type || netio_one_segment(skb, s))
		return true;
	switch (s->gso_type & ~NETIO_GSO_ECN) {
	case NETIO_GSO_TCPV4:
		sh->gso_type = SKB_GSO_TCPV4;
		break;
	case NETIO_GSO_TCPV6:
		sh->gso_type = SKB_GSO_TCPV6;
		break;
	default:
		sh->gso_type = SKB_GSO_UDP_L4;
	}
	if (s->gso_type & NETIO_GSO_ECN)
		sh->gso_type |= SKB_GSO_TCP_ECN;
	if (tunnel)
		sh->gso_type |= SKB_GSO_UDP_TUNNEL;
	/* Who segments it checks the headers first. */
	sh->gso_type |= SKB_GSO_DODGY;
	sh->gso_size = s->gso_size;
	sh->gso_segs = 0;
	return true;
}

/* A new skb of what lies in the nbufs. All of it is copied: what has been judged
 * must not change any more, and up to 1500 bytes a copy costs least.
 */
static noinline struct sk_buff *netio_gather(struct netio_lane *lane,
					     const u32 *idx, u32 n, u32 *eport)
{
	struct netio_instance *inst = lane->inst;
	u32 off[NETIO_CHAIN_MAX], len[NETIO_CHAIN_MAX], total = 0, i, at = 0;
	struct netio_said s;
	struct sk_buff *skb;
	u32 linear;
	int err;

	netio_read(&s, inst->nb[idx[0]].buf);
	*eport = s.eport;
	if (s.eport >= inst->port_max || !netio_offload_ok(&s))
		goto wrong;
	for (i = 0; i < n; i++) {
		struct netio_nbuf *h = inst->nb[idx[i]].buf;

		off[i] = i ? READ_ONCE(h->off) : s.off;
		len[i] = i ? READ_ONCE(h->len) : s.len;
		if (!netio_piece_ok(off[i], len[i]))
			goto wrong;
		total += len[i];
	}
	if (total != s.total || total > 0xffff + NETIO_HEADROOM ||
	    s.flags & NETIO_NB_PARKED)
		goto wrong;
	linear = n == 1 ? total : min_t(u32, total, NETIO_PARK_COPY_MIN);
	linear = max_t(u32, linear, s.len);
	skb = alloc_skb_with_frags(NETIO_HEADROOM + linear, total - linear,
				   PAGE_ALLOC_COSTLY_ORDER, &err, GFP_ATOMIC);
	if (!skb)
		return ERR_PTR(-ENOMEM);
	skb_reserve(skb, NETIO_HEADROOM);
	skb_put(skb, linear);
	skb->data_len = total - linear;
	skb->len = total;
	for (i = 0; i < n; i++) {
		if (skb_store_bits(skb, at, (u8 *)inst->nb[idx[i]].buf + off[i],
				   len[i]))
			goto free;
		at += len[i];
	}
	if (n > 1)
		atomic64_add(total - s.len, (atomic64_t *)&lane->d->copied);
	if (netio_offload(skb, &s))
		return skb;
free:
	kfree_skb(skb);
wrong:
	return ERR_PTR(-EINVAL);
}

/* Whether a checksum is to be completed as it has been all along. */
static bool netio_csum_as_it_was(const struct sk_buff *skb, const struct netio_said *s)
{
	return skb->ip_summed == CHECKSUM_PARTIAL &&
	       skb->csum_offset == s->csum_offset &&
	       skb_checksum_start_offset(skb) == s->csum_start;
}

/*
 * Joins what is in the nbuf with what is parked, in the skb that it came in.
 * The skb is freed if that fails.
 */
static __always_inline struct sk_buff *
netio_join(struct sk_buff *skb, u32 copied, const struct netio_nbuf *h,
	   const struct netio_said *s)
{
	u32 parked = skb->len - copied;
	int grow = (int)s->len - copied;
	bool gso = skb_is_gso(skb);

	if (unlikely(!netio_piece_ok(s->off, s->len) || s->total != s->len + parked ||
		     s->total > 0xffff + NETIO_HEADROOM ||
		     !(s->flags & NETIO_NB_PARKED) != !parked))
		goto wrong;
	/* Segmentation is the packet's own: it cannot be changed on the way. */
	if (unlikely(s->gso_size != (gso ? skb_shinfo(skb)->gso_size : 0) ||
		     s->gso_type != (gso ? netio_gso_type(skb) : NETIO_GSO_NONE)))
		goto wrong;
	if (!(s->flags & NETIO_NB_DIRTY) && !grow && s->off == NETIO_NBUF_DATA &&
	    likely(!s->encap))
		return skb;
	/* Of a clone only the headers may be ours to write. */
	if (unlikely(skb_try_make_writable(skb, copied) ||
		     (grow > 0 && skb_cow_head(skb, grow)))) {
		kfree_skb(skb);
		return ERR_PTR(-ENOMEM);
	}
	if (grow > 0)
		__skb_push(skb, grow);
	else if (grow < 0)
		__skb_pull(skb, -grow);
	memcpy(skb->data, (const u8 *)h + s->off, s->len);
	skb_clear_hash(skb);
	if (s->flags & NETIO_NB_CSUM_PARTIAL) {
		if (unlikely(!netio_csum_as_it_was(skb, s)) &&
		    !skb_partial_csum_set(skb, s->csum_start, s->csum_offset))
			goto wrong;
	} else if (s->flags & NETIO_NB_CSUM_VALID) {
		skb->ip_summed = CHECKSUM_UNNECESSARY;
		skb->csum_level = 0;
	} else {
		skb->ip_summed = CHECKSUM_NONE;
	}
	/* Of a packet from a tunnel that is no more; one that is segmented has it still. */
	if (grow < 0 && !gso)
		skb->encapsulation = 0;
	if (unlikely(s->encap)) {
		bool tunnel = netio_tunnel_set(skb, s->encap, s->gso_type);

		if (gso && !tunnel)
			goto wrong;
		if (gso)
			skb_shinfo(skb)->gso_type |= SKB_GSO_UDP_TUNNEL;
	} else if (gso && likely(!skb->encapsulation) &&
		   unlikely(!netio_gso_headers_ok(skb, 0, s->gso_type))) {
		goto wrong;
	}
	if (gso)
		skb_shinfo(skb)->gso_type |= SKB_GSO_DODGY;
	return skb;
wrong:
	kfree_skb(skb);
	return ERR_PTR(-EINVAL);
}

struct sk_buff *netio_packet_send(struct netio_lane *lane, const u32 *idx,
				  u32 n, bool clone, u32 *eport)
{
	struct netio_instance *inst = lane->inst;
	struct netio_nb *nb = &inst->nb[idx[0]];
	const struct netio_nbuf *h = nb->buf;
	u32 copied = nb->copied;
	struct sk_buff *skb;
	struct netio_said s;

	if (unlikely(n > 1 || !nb->skb))
		return netio_gather(lane, idx, n, eport);
	netio_read(&s, h);
	*eport = s.eport;
	if (unlikely(s.eport >= inst->port_max || !netio_offload_ok(&s)))
		return ERR_PTR(-EINVAL);
	if (unlikely(clone)) {
		skb = skb_clone(nb->skb, GFP_ATOMIC);
		if (!skb)
			return ERR_PTR(-ENOMEM);
	} else {
		skb = netio_nb_detach(inst, nb);
	}
	return netio_join(skb, copied, h, &s);
}

void netio_packet_fetch(struct netio_lane *lane, u32 idx)
{
	struct netio_instance *inst = lane->inst;
	struct netio_nb *nb = &inst->nb[idx];
	u32 chain[NETIO_CHAIN_MAX] = { idx }, n, i;
	struct sk_buff *skb = nb->skb;
	u16 flags = READ_ONCE(nb->buf->flags) & ~NETIO_NB_PARKED;

	if (!skb || !nb->parked)
		goto answer;
	n = DIV_ROUND_UP(nb->parked, NETIO_NBUF_ROOM);
	if (n >= NETIO_CHAIN_MAX || !netio_nb_alloc_n(inst, chain + 1, n)) {
		WRITE_ONCE(nb->buf->flags, flags | NETIO_NB_PARKED);
		netio_inq_put(lane, NETIO_IN_FETCHED, chain, 1);
		return;
	}
	netio_scatter(inst, skb, nb->copied, chain + 1, n, NETIO_NBUF_ROOM);
	for (i = 1; i <= n; i++) {
		inst->nb[chain[i]].iport = nb->iport;
		if (nb->iport)
			atomic_inc((atomic_t *)&inst->ports[nb->iport].nbufs);
	}
	if (nb->iport)
		atomic_sub(nb->parked, (atomic_t *)&inst->ports[nb->iport].parked_bytes);
	atomic64_sub(nb->parked, &inst->parked);
	atomic64_add(nb->parked, (atomic64_t *)&lane->d->copied);
	nb->parked = 0;
	nb->skb = NULL;
	consume_skb(skb);
	WRITE_ONCE(nb->buf->flags, flags);
	netio_inq_put(lane, NETIO_IN_FETCHED, chain, n + 1);
	return;
answer:
	WRITE_ONCE(nb->buf->flags, flags | (nb->lost ? NETIO_NB_PARKED : 0));
	netio_inq_put(lane, NETIO_IN_FETCHED, chain, 1);
}

/* --- packets that a NIC's driver sends from nbufs, or receives into them ------ */

bool netio_packet_frame(struct netio_lane *lane, const u32 *idx, u32 n,
			u32 *eport, struct netio_frame *f)
{
	struct netio_instance *inst = lane->inst;
	u32 total = 0, i;
	struct netio_said s;

	BUILD_BUG_ON(NETIO_CHAIN_MAX > NETIO_FRAME_PIECES);
	netio_read(&s, inst->nb[idx[0]].buf);
	*eport = s.eport;
	if (s.eport >= inst->port_max || !netio_offload_ok(&s) ||
	    s.flags & NETIO_NB_PARKED)
		return false;
	for (i = 0; i < n; i++) {
		const struct netio_nb *nb = &inst->nb[idx[i]];
		struct netio_piece *p = &f->pieces[i];

		if (nb->skb || nb->lost)
			return false;
		p->index = idx[i];
		p->off = i ? READ_ONCE(nb->buf->off) : s.off;
		p->len = i ? READ_ONCE(nb->buf->len) : s.len;
		if (!netio_piece_ok(p->off, p->len))
			return false;
		total += p->len;
	}
	f->count = n;
	f->len = total;
	f->flags = s.flags & NETIO_NB_CSUM_PARTIAL;
	f->csum_start = s.csum_start;
	f->csum_offset = s.csum_offset;
	f->gso_type = s.gso_type;
	f->gso_size = s.gso_size;
	return total == s.total;
}

/* As netio_describe(), of one that lies in nbufs. */
static void netio_describe_frame(struct netio_nbuf *h, const struct netio_frame *f,
				 u32 port, u32 hdr_len, u32 hash, u8 lane,
				 bool hashed)
{
	h->iport = port;
	h->eport = 0;
	h->off = f->pieces[0].off;
	h->len = f->pieces[0].len;
	h->total = f->len;
	h->lane = lane;
	h->gso_type = f->gso_type;
	h->gso_size = f->gso_size;
	h->hdr_len = hdr_len;
	h->csum_start = f->csum_start;
	h->csum_offset = f->csum_offset;
	h->hash = hash;
	h->tstamp = f->tstamp;
	h->mark = 0;
	h->encap = 0;
	h->reserved1 = 0;
	memset(h->reserved, 0, sizeof(h->reserved));
	h->flags = f->flags | (hashed ? NETIO_NB_HASH : 0);
}

int netio_packet_give(struct netio_iface *iface, const struct netio_frame *f)
{
	const struct netio_piece *first = &f->pieces[0];
	struct netio_instance *inst = iface->inst;
	struct netio_nb *nb = &inst->nb[first->index];
	const u8 *b = (const u8 *)nb->buf + first->off;
	struct netio_lane *lane = &inst->lanes[0];
	bool hashed = inst->lane_count > 1;
	u32 idx[NETIO_CHAIN_MAX], hash = 0, i;
	int hdr_len = netio_headers_in(b, first->len).len;

	if (unlikely(hdr_len < 0 || f->len > 0xffff + NETIO_HEADROOM))
		return -EINVAL;
	if (unlikely(hdr_len > first->len))
		hdr_len = 0;
	/* What is on offer to segment has a checksum to complete in the first nbuf. */
	if (f->gso_type && (!f->gso_size || !(f->flags & NETIO_NB_CSUM_PARTIAL)))
		return -EINVAL;
	if (f->flags & NETIO_NB_CSUM_PARTIAL &&
	    (u32)f->csum_start + f->csum_offset + 2 > first->len)
		return -EINVAL;
	if (unlikely(!netio_iface_charge(iface, f->count, 0)))
		return -ENOBUFS;
	if (unlikely(hashed)) {
		hash = netio_flow_hash(b, first->len);
		lane = &inst->lanes[reciprocal_scale(hash, inst->lane_count)];
	}
	for (i = 0; i < f->count; i++) {
		const struct netio_piece *p = &f->pieces[i];

		idx[i] = p->index;
		nb = &inst->nb[p->index];
		nb->iport = iface->port;
		if (!i)
			continue;
		netio_packet_clear(nb->buf);
		nb->buf->off = p->off;
		nb->buf->len = p->len;
	}
	netio_describe_frame(inst->nb[idx[0]].buf, f, iface->port, hdr_len, hash,
			     lane->number, hashed);
	if (likely(f->count == 1))
		netio_inq_put_one(lane, NETIO_IN_RX, &inst->nb[idx[0]], idx[0]);
	else
		netio_inq_put(lane, NETIO_IN_RX, idx, f->count);
	trace_netio_receive(lane, iface->port, f->len);
	atomic64_inc((atomic64_t *)&lane->d->rx_packets);
	return 0;
}
