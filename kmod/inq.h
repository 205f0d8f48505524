/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The InQ (paper, section 8): entries for the process, and its wake-up. All of it
 * with softirqs off, from any processor at once.
 */
#ifndef NETIO_INQ_H
#define NETIO_INQ_H

#include "nbuf.h"

static inline u32 netio_inq_entry(const struct netio_lane *lane, u32 pos,
				  u32 action, u32 param)
{
	return NETIO_TOGGLE(pos, lane->order) |
	       action << NETIO_ENT_ACTION_SHIFT | param;
}

static inline u32 *netio_inq_slot(const struct netio_lane *lane, u32 pos)
{
	return &lane->inq[pos & lane->mask];
}

static inline u32 netio_inq_reserve(const struct netio_lane *lane, u32 n)
{
	return atomic_fetch_add_relaxed(n, (atomic_t *)&lane->d->inq_tail);
}

/*
 * Gives nbufs to the process as one packet: the entries are consecutive. There
 * is always room: see NETIO_EVENT_SLOTS.
 */
void netio_inq_put(struct netio_lane *lane, u32 action, const u32 *idx, u32 n);

/* The same for one nbuf, as most packets are: nb, of index idx. */
static inline void netio_inq_put_one(struct netio_lane *lane, u32 action,
				     struct netio_nb *nb, u32 idx)
{
	u32 pos = netio_inq_reserve(lane, 1);

	nb->lane = lane->number;
	nb->pos = pos;
	netio_nb_give(nb);
	/* (C) */
	smp_store_release(netio_inq_slot(lane, pos),
			  netio_inq_entry(lane, pos, action, idx));
}

void netio_inq_wake_up(struct netio_lane *lane, u32 seq);

/* Wakes the process if it sleeps. After a batch of netio_inq_put(). */
static inline void netio_inq_wake(struct netio_lane *lane)
{
	u32 seq;

	smp_mb(); /* (L): entries before the look at sleep_seq */
	seq = READ_ONCE(lane->p->sleep_seq);
	if (unlikely(seq != READ_ONCE(lane->woken)))
		netio_inq_wake_up(lane, seq);
}

/* Events are kept until there is room, and told once however often they come. */
void netio_event_port(struct netio_instance *inst, u32 port);
void netio_event_qos(struct netio_instance *inst, u32 port);
void netio_event_drops(struct netio_lane *lane, u32 count);
void netio_event_denied(struct netio_lane *lane, u32 count);

/* Publishes the events that there are, as far as there is room. */
void netio_inq_events(struct netio_lane *lane);

/* Whether the process has something to read. */
bool netio_inq_pending(struct netio_lane *lane);

#endif /* NETIO_INQ_H */
