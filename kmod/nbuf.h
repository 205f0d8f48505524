/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The private truth about each nbuf: who has it, and which packet came in it.
 *
 * An nbuf is the device's or the process's. Who publishes it on an InQ gives it
 * away by netio_nb_give() and touches neither it nor its skb any more: from
 * that moment a hostile process may hand it in, seen or not. Who finds it on
 * an OutQ gets it by netio_nb_take(), which only one of all who try wins.
 */
#ifndef NETIO_NBUF_H
#define NETIO_NBUF_H

#include "instance.h"

enum { NETIO_NB_DEVICE, NETIO_NB_PROCESS };

struct netio_nb {
	struct netio_nbuf *buf;	/* shared */
	struct sk_buff *skb;	/* that came in it, or NULL */
	u32 iport;		/* that it counts for, 0: none */
	u32 parked:31;		/* bytes of skb that are not in the nbuf */
	u32 lost:1;		/* what was parked has been freed: see dead_ms */
	u32 pos;		/* on the InQ of lane, where it was given last */
	u16 copied;		/* bytes of skb that were put into the nbuf */
	u8 lane;
	u8 owner;
};

#define NETIO_NB_NONE	(~0U)

/*
 * Free nbufs of one processor, whose softirqs are off whenever it is used. Others
 * may steal from it: they exchange a slot, and leave count as it is.
 */
struct netio_nb_cache {
	u32 count;	/* slots that may have one; the others have none */
	u32 idx[64];
	unsigned long ticks;	/* jiffies at which now was looked at */
	u64 now;		/* CLOCK_MONOTONIC in ns, see netio_clock() */
};

int netio_nbs_init(struct netio_instance *inst);
void netio_nbs_exit(struct netio_instance *inst);

/* How many the device has free, and how many the process has, at about this moment. */
u32 netio_nb_free_count(struct netio_instance *inst);
u32 netio_nb_process_count(struct netio_instance *inst);

static inline u32 netio_nb_pop(struct netio_nb_cache *c)
{
	while (likely(c->count)) {
		u32 idx = xchg(&c->idx[--c->count], NETIO_NB_NONE);

		if (likely(idx != NETIO_NB_NONE))
			return idx;
	}
	return NETIO_NB_NONE;
}

u32 netio_nb_alloc_slow(struct netio_instance *inst);

u64 netio_clock_tick(struct netio_nb_cache *c, unsigned long ticks);

/* CLOCK_MONOTONIC in ns as of about the last tick. Softirqs are off. */
static inline u64 netio_clock(struct netio_instance *inst)
{
	struct netio_nb_cache *c = this_cpu_ptr(inst->caches);
	unsigned long ticks = jiffies;

	/* It moves on at a tick, and asking for it costs as much as a packet's headers. */
	return likely(c->ticks == ticks) ? c->now : netio_clock_tick(c, ticks);
}

/* An empty nbuf of the device, or NETIO_NB_NONE. Softirqs are off. */
static inline u32 netio_nb_alloc(struct netio_instance *inst)
{
	u32 idx = netio_nb_pop(this_cpu_ptr(inst->caches));

	return likely(idx != NETIO_NB_NONE) ? idx : netio_nb_alloc_slow(inst);
}

/* Up to n of them; tells how many. Softirqs are off. */
u32 netio_nb_alloc_many(struct netio_instance *inst, u32 *idx, u32 n);

/* Gives back nbufs of the device. Softirqs are off. */
void netio_nb_free(struct netio_instance *inst, const u32 *idx, u32 n);

static inline void netio_nb_give(struct netio_nb *nb)
{
	/* pairs with netio_nb_take(): who takes it sees what was put in */
	smp_store_release(&nb->owner, NETIO_NB_PROCESS);
}

static inline bool netio_nb_take(struct netio_nb *nb)
{
	return READ_ONCE(nb->owner) == NETIO_NB_PROCESS &&
	       cmpxchg_acquire(&nb->owner, NETIO_NB_PROCESS, NETIO_NB_DEVICE) ==
		       NETIO_NB_PROCESS;
}

/*
 * Parts an nbuf of the device from its packet, and with it from its port's
 * account. The skb, if any, is the caller's.
 */
static inline struct sk_buff *netio_nb_detach(struct netio_instance *inst,
					      struct netio_nb *nb)
{
	struct sk_buff *skb = nb->skb;
	struct netio_port *port = &inst->ports[nb->iport];

	if (likely(nb->iport))
		atomic_dec((atomic_t *)&port->nbufs);
	if (nb->parked) {
		atomic64_sub(nb->parked, &inst->parked);
		if (nb->iport)
			atomic_sub(nb->parked, (atomic_t *)&port->parked_bytes);
	}
	nb->skb = NULL;
	nb->iport = 0;
	nb->parked = 0;
	nb->lost = 0;
	return skb;
}

#endif /* NETIO_NBUF_H */
