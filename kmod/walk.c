// SPDX-License-Identifier: GPL-2.0
#include <linux/sched.h>
#include <linux/skbuff.h>

#include "walk.h"

void netio_walk_begin(struct netio_instance *inst)
	__acquires(&inst->walk_lock)
{
	/* Off before the count: a softirq here would wait for this. */
	local_bh_disable();
	atomic_inc(&inst->walkers);
	write_lock(&inst->walk_lock);
}

void netio_walk_end(struct netio_instance *inst)
	__releases(&inst->walk_lock)
{
	write_unlock(&inst->walk_lock);
	atomic_dec(&inst->walkers);
	local_bh_enable();
}

void netio_walk_pause(struct netio_instance *inst, u32 i)
{
	if (!i || i % NETIO_WALK)
		return;
	netio_walk_end(inst);
	cond_resched();
	netio_walk_begin(inst);
}

/* One walk for what was received from a port; false: FETCH may have moved some. */
static bool netio_forget(struct netio_instance *inst, u32 port, bool pause)
{
	struct netio_port *sh = &inst->ports[port];
	u32 i;

	netio_walk_begin(inst);
	for (i = 0; i < inst->nbuf_count; i++) {
		struct netio_nb *nb = &inst->nb[i];

		if (pause)
			netio_walk_pause(inst, i);
		/* Free ones are given to packets from other ports meanwhile. */
		if (READ_ONCE(nb->iport) != port)
			continue;
		/* Its socket may end with its network namespace. */
		if (nb->skb)
			skb_orphan(nb->skb);
		atomic_dec((atomic_t *)&sh->nbufs);
		atomic_sub(nb->parked, (atomic_t *)&sh->parked_bytes);
		nb->iport = 0;
	}
	netio_walk_end(inst);
	return !atomic_read((atomic_t *)&sh->nbufs);
}

void netio_walk_forget(struct netio_instance *inst, u32 port)
{
	if (!atomic_read((atomic_t *)&inst->ports[port].nbufs))
		return;
	if (!netio_forget(inst, port, true))
		netio_forget(inst, port, false);
}

void netio_walk_unpark(struct netio_lane *lane)
{
	struct netio_instance *inst = lane->inst;
	struct sk_buff_head drop;
	u32 i;

	__skb_queue_head_init(&drop);
	netio_walk_begin(inst);
	for (i = 0; i < inst->nbuf_count; i++) {
		struct netio_nb *nb = &inst->nb[i];

		netio_walk_pause(inst, i);
		if (READ_ONCE(nb->lane) != lane->number || !netio_nb_take(nb))
			continue;
		/* It was free, and a packet on another lane has got it meanwhile. */
		if (unlikely(nb->lane != lane->number)) {
			netio_nb_give(nb);
			continue;
		}
		if (nb->skb) {
			u32 iport = nb->iport;

			if (nb->parked) {
				atomic64_sub(nb->parked, &inst->parked);
				if (iport)
					atomic_sub(nb->parked,
						   (atomic_t *)&inst->ports[iport].parked_bytes);
				nb->parked = 0;
				nb->lost = 1;
			}
			__skb_queue_tail(&drop, nb->skb);
			nb->skb = NULL;
		}
		netio_nb_give(nb);
	}
	netio_walk_end(inst);
	__skb_queue_purge(&drop);
}
