// SPDX-License-Identifier: GPL-2.0
#include <linux/bitmap.h>
#include <linux/poll.h>

#include "inq.h"
#include "trace.h"

void netio_inq_put(struct netio_lane *lane, u32 action, const u32 *idx, u32 n)
{
	u32 pos = netio_inq_reserve(lane, n), i;

	for (i = 0; i < n; i++) {
		struct netio_nb *nb = &lane->inst->nb[idx[i]];

		nb->lane = lane->number;
		nb->pos = pos + i;
		netio_nb_give(nb);
	}
	for (i = n; i-- > 0;)
		/* (C), last to first: the reader stops at an unwritten slot */
		smp_store_release(netio_inq_slot(lane, pos + i),
				  netio_inq_entry(lane, pos + i, action, idx[i]) |
				  (i < n - 1 ? NETIO_ENT_MORE : 0));
}

void netio_inq_wake_up(struct netio_lane *lane, u32 seq)
{
	/* Without an entry it would go on to sleep, and its wake-up be used up. */
	if (unlikely(!netio_inq_pending(lane)))
		return;
	/* Written by the process: any value is one wake-up, no more. */
	WRITE_ONCE(lane->woken, seq);
	atomic64_inc((atomic64_t *)&lane->d->wakeups);
	trace_netio_wake(lane, READ_ONCE(lane->d->inq_tail));
	wake_up_interruptible_poll(&lane->wait, EPOLLIN | EPOLLRDNORM);
}

/*
 * Whether an event may have a slot: as many must stay free as there are nbufs
 * that are not on this InQ. inq_head is the process's word; a wrong one costs it
 * entries of its own.
 */
static bool netio_event_room(struct netio_lane *lane)
{
	u32 used = READ_ONCE(lane->d->inq_tail) - READ_ONCE(lane->p->inq_head);

	/* Less those that others are publishing at this moment. */
	return used < (1U << lane->inst->order) - lane->inst->nbuf_count -
		      NETIO_EVENT_SLOTS / 2;
}

static void netio_event_put(struct netio_lane *lane, u32 action, u32 param)
{
	u32 pos = netio_inq_reserve(lane, 1);

	/* (C) */
	smp_store_release(netio_inq_slot(lane, pos),
			  netio_inq_entry(lane, pos, action, param));
}

static void netio_event_count(struct netio_lane *lane, u32 action, atomic_t *v)
{
	u32 n;

	if (!atomic_read(v) || !netio_event_room(lane))
		return;
	n = min_t(u32, atomic_xchg(v, 0), NETIO_ENT_PARAM_MASK);
	if (n)
		netio_event_put(lane, action, n);
}

/* The events of one group; false: there is no more room. */
static bool netio_event_group(struct netio_lane *lane, u32 action,
			      struct netio_port_set *set, u32 group)
{
	struct netio_instance *inst = lane->inst;
	unsigned long port = (unsigned long)group * NETIO_PORT_GROUP;
	unsigned long end = min_t(unsigned long, port + NETIO_PORT_GROUP, inst->port_max);

	for (port = find_next_bit(set->ports, end, port); port < end;
	     port = find_next_bit(set->ports, end, port + 1)) {
		if (!netio_event_room(lane))
			return false;
		if (!test_and_clear_bit(port, set->ports))
			continue;
		atomic_dec(&inst->events);
		netio_event_put(lane, action, port);
	}
	return true;
}

static void netio_event_ports(struct netio_lane *lane, u32 action,
			      struct netio_port_set *set)
{
	u32 groups = DIV_ROUND_UP(lane->inst->port_max, NETIO_PORT_GROUP), group;

	if (!netio_event_room(lane))
		return;
	for_each_set_bit(group, set->groups, groups) {
		/* Before the look: who sets a port's bit sets the group's after it. */
		if (!test_and_clear_bit(group, set->groups))
			continue;
		if (!netio_event_group(lane, action, set, group)) {
			set_bit(group, set->groups);
			return;
		}
	}
}

void netio_inq_events(struct netio_lane *lane)
{
	struct netio_instance *inst = lane->inst;

	netio_event_count(lane, NETIO_IN_DROPS, &lane->drops);
	netio_event_count(lane, NETIO_IN_DENIED, &lane->denied);
	/* What is of no lane goes to the first. */
	if (lane->number == 0 && atomic_read(&inst->events) > 0) {
		netio_event_ports(lane, NETIO_IN_PORT, &inst->port_events);
		netio_event_ports(lane, NETIO_IN_QOS, &inst->qos_events);
	}
}

static void netio_event_add(struct netio_instance *inst, u32 port,
			    struct netio_port_set *set)
{
	struct netio_lane *lane = &inst->lanes[0];

	if (!test_and_set_bit(port, set->ports)) {
		atomic_inc(&inst->events);
		set_bit(port / NETIO_PORT_GROUP, set->groups);
	}
	local_bh_disable();
	netio_inq_events(lane);
	netio_inq_wake(lane);
	local_bh_enable();
}

void netio_event_port(struct netio_instance *inst, u32 port)
{
	netio_event_add(inst, port, &inst->port_events);
}

void netio_event_qos(struct netio_instance *inst, u32 port)
{
	netio_event_add(inst, port, &inst->qos_events);
}

void netio_event_drops(struct netio_lane *lane, u32 count)
{
	atomic_add(count, &lane->drops);
}

void netio_event_denied(struct netio_lane *lane, u32 count)
{
	/* Saturates where one event can tell it. */
	if (atomic_read(&lane->denied) < NETIO_ENT_PARAM_MASK)
		atomic_add(count, &lane->denied);
}

bool netio_inq_pending(struct netio_lane *lane)
{
	return READ_ONCE(lane->d->inq_tail) != READ_ONCE(lane->p->inq_head);
}
