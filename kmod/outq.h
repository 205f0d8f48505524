/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The OutQ's service (paper, section 8: the tasklet). It runs in the process's
 * KICK, in a NAPI instance started by traffic and by the deadman timer, and
 * for as long as entries come fast.
 */
#ifndef NETIO_OUTQ_H
#define NETIO_OUTQ_H

#include "nbuf.h"

struct netio_iface;

extern u32 netio_deadman_default;	/* microseconds */

void netio_outq_init(struct netio_lane *lane);

/*
 * First stop, for all lanes, then a grace period, then exit: a service that is on
 * its way out may still start the timer, and the timer a service. Both sleep.
 */
void netio_outq_stop(struct netio_lane *lane);
void netio_outq_exit(struct netio_lane *lane);

/* KICK: carries out what is on the OutQ. Process context. */
void netio_outq_kick(struct netio_lane *lane);

/* Starts the service if there is work, for an owner that died before its KICK. */
void netio_outq_nudge(struct netio_lane *lane);

/* Whether an entry is of this pass over the ring: NETIO_TOGGLE(), in fewer steps. */
static inline bool netio_present(const struct netio_lane *lane, u32 entry, u32 pos)
{
	return (entry >> 31 ^ pos >> lane->order) & 1;
}

/* Whether there is an entry to take. Only a hint: the taker looks again. */
static inline bool netio_outq_ready(const struct netio_lane *lane)
{
	/* Behind the beginning of a packet that waits for its end. */
	u32 pos = READ_ONCE(lane->head) + READ_ONCE(lane->partial);

	return netio_present(lane, READ_ONCE(lane->outq[pos & lane->mask]), pos);
}

/* Starts the service if it polls and there is work. Softirqs are off. */
static inline void netio_outq_hint(struct netio_lane *lane)
{
	if (READ_ONCE(lane->awake) && netio_outq_ready(lane))
		napi_schedule(&lane->napi);
}

/*
 * Carries out all that is on the OutQ and begins it anew behind that. No owner
 * works on it.
 */
void netio_outq_drain(struct netio_lane *lane);

#endif /* NETIO_OUTQ_H */
