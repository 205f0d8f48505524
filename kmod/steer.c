// SPDX-License-Identifier: GPL-2.0
#include <linux/icmpv6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/slab.h>
#include <linux/socket.h>
#include <linux/sort.h>
#include <net/ndisc.h>

#include "compat.h"
#include "steer.h"

/* A prefix, and the number in which its address lies in the upper bits. */
struct netio_range {
	u64 hi, lo;
	u8 len;		/* bits */
};

/* One family's prefixes, by address and length. */
struct netio_ranges {
	struct netio_range *all;	/* as given */
	struct netio_range *top;	/* those in no other one: they are disjoint */
	u32 count, tops;
};

struct netio_steer {
	struct rcu_head rcu;
	struct netio_ranges v4, v6;
	struct netio_range space[];
};

static int netio_range_compare(const void *a, const void *b)
{
	const struct netio_range *x = a, *y = b;

	if (x->hi != y->hi)
		return x->hi < y->hi ? -1 : 1;
	if (x->lo != y->lo)
		return x->lo < y->lo ? -1 : 1;
	return (int)x->len - y->len;
}

static u64 netio_mask_hi(u8 len)
{
	return len >= 64 ? ~0ULL : len ? ~0ULL << (64 - len) : 0;
}

static u64 netio_mask_lo(u8 len)
{
	return len <= 64 ? 0 : ~0ULL << (128 - len);
}

static bool netio_range_has(const struct netio_range *r, u64 hi, u64 lo)
{
	return !((hi ^ r->hi) & netio_mask_hi(r->len)) &&
	       !((lo ^ r->lo) & netio_mask_lo(r->len));
}

static bool netio_prefix_range(struct netio_range *r, const struct netio_prefix *p)
{
	static const u8 zero[12];

	if (p->reserved)
		return false;
	r->len = p->len;
	switch (p->family) {
	case AF_INET:
		if (p->len > 32 || memcmp(p->addr + 4, zero, 12))
			return false;
		break;
	case AF_INET6:
		if (p->len > 128)
			return false;
		break;
	default:
		return false;
	}
	r->hi = get_unaligned_be64(p->addr);
	r->lo = get_unaligned_be64(p->addr + 8);
	/* Bits beyond the prefix say that somebody meant something else. */
	return !(r->hi & ~netio_mask_hi(p->len)) && !(r->lo & ~netio_mask_lo(p->len));
}

static struct netio_range *netio_range_find(const struct netio_ranges *s,
					    const struct netio_range *r)
{
	u32 i;

	for (i = 0; i < s->count; i++)
		if (!netio_range_compare(&s->all[i], r))
			return &s->all[i];
	return NULL;
}

static int netio_range_change(struct netio_ranges *s, const struct netio_range *r,
			      u32 op)
{
	struct netio_range *at = netio_range_find(s, r);

	if (op == NETIO_STEER_REMOVE) {
		if (!at)
			return -ENOENT;
		*at = s->all[--s->count];
		return 0;
	}
	if (at)
		return -EEXIST;
	s->all[s->count++] = *r;
	return 0;
}

/* Prefixes lie in each other or apart, never across each other. */
static void netio_ranges_finish(struct netio_ranges *s)
{
	u32 i;

	sort(s->all, s->count, sizeof(*s->all), netio_range_compare, NULL);
	for (i = 0; i < s->count; i++) {
		const struct netio_range *r = &s->all[i];

		if (s->tops &&
		    netio_range_has(&s->top[s->tops - 1], r->hi, r->lo))
			continue;
		s->top[s->tops++] = *r;
	}
}

struct netio_steer *netio_steer_change(const struct netio_steer *old, u32 op,
				       const struct netio_prefix *p, u32 count)
{
	u32 v4 = 0, v6 = 0, i;
	struct netio_steer *s;
	int err = 0;

	if (op == NETIO_STEER_REPLACE)
		old = NULL;
	else if (op != NETIO_STEER_ADD && op != NETIO_STEER_REMOVE)
		return ERR_PTR(-EINVAL);
	if (old) {
		v4 = old->v4.count;
		v6 = old->v6.count;
	}
	i = 2 * (v4 + v6 + 2 * count);
	s = kvzalloc(struct_size(s, space, i), GFP_KERNEL_ACCOUNT);
	if (!s)
		return ERR_PTR(-ENOMEM);
	s->v4.all = s->space;
	s->v4.top = s->v4.all + v4 + count;
	s->v6.all = s->v4.top + v4 + count;
	s->v6.top = s->v6.all + v6 + count;
	if (old) {
		memcpy(s->v4.all, old->v4.all, v4 * sizeof(*s->v4.all));
		memcpy(s->v6.all, old->v6.all, v6 * sizeof(*s->v6.all));
		s->v4.count = v4;
		s->v6.count = v6;
	}
	for (i = 0; i < count && !err; i++) {
		struct netio_range r;

		if (!netio_prefix_range(&r, &p[i])) {
			err = -EINVAL;
			break;
		}
		err = netio_range_change(p[i].family == AF_INET ? &s->v4 : &s->v6,
					 &r, op);
	}
	if (!err && s->v4.count + s->v6.count > NETIO_STEER_MAX)
		err = -ENOSPC;
	if (err) {
		kvfree(s);
		return ERR_PTR(err);
	}
	netio_ranges_finish(&s->v4);
	netio_ranges_finish(&s->v6);
	return s;
}

static void netio_steer_free_rcu(struct rcu_head *rcu)
{
	kvfree(container_of(rcu, struct netio_steer, rcu));
}

void netio_steer_free(struct netio_steer *s)
{
	if (s)
		call_rcu(&s->rcu, netio_steer_free_rcu);
}

/* The last one that begins at or before the address is the one to have it. */
static bool netio_ranges_have(const struct netio_ranges *s, u64 hi, u64 lo)
{
	u32 from = 0, to = s->tops;

	while (from < to) {
		u32 mid = (from + to) / 2;
		const struct netio_range *r = &s->top[mid];

		if (r->hi < hi || (r->hi == hi && r->lo <= lo))
			from = mid + 1;
		else
			to = mid;
	}
	return from && netio_range_has(&s->top[from - 1], hi, lo);
}

/* Neighbours and routers talk with the host, whatever the address. */
static bool netio_is_ndisc(const u8 *l3, u32 len)
{
	const struct ipv6hdr *ip = (const struct ipv6hdr *)l3;
	u8 type;

	if (ip->nexthdr != IPPROTO_ICMPV6 || ip->hop_limit != 255 ||
	    len <= sizeof(*ip))
		return false;
	type = l3[sizeof(*ip)];
	return type >= NDISC_ROUTER_SOLICITATION && type <= NDISC_REDIRECT;
}

bool netio_steer_ours(const struct netio_steer *s, const u8 *l3, u32 len)
{
	if (!s || len < sizeof(struct iphdr))
		return false;
	if (l3[0] >> 4 == 4) {
		u32 addr = get_unaligned_be32(l3 + offsetof(struct iphdr, daddr));

		/* Group and broadcast addresses are the link's. */
		return addr < 0xe0000000U &&
		       netio_ranges_have(&s->v4, (u64)addr << 32, 0);
	}
	if (l3[0] >> 4 == 6 && len >= sizeof(struct ipv6hdr)) {
		const u8 *to = l3 + offsetof(struct ipv6hdr, daddr);
		u64 hi = get_unaligned_be64(to), lo = get_unaligned_be64(to + 8);

		/* So are ff00::/8 and fe80::/10. */
		if (hi >> 56 == 0xff || hi >> 54 == 0xfe80 >> 6)
			return false;
		return netio_ranges_have(&s->v6, hi, lo) &&
		       !netio_is_ndisc(l3, len);
	}
	return false;
}
