/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The InQ (paper, section 8): entries for the process, and its wake-up. All of it
 * with softirqs off, from any processor at once.
 */
#ifndef NETIO_INQ_H
#define NETIO_INQ_H

#include "nbuf.h"

/*
 * Gives nbufs to the process as one packet: the entries are consecutive. There
 * is always room: see NETIO_EVENT_SLOTS.
 */
void netio_inq_put(struct netio_lane *lane, u32 action, const u32 *idx, u32 n);

/* Wakes the process if it sleeps. After a batch of netio_inq_put(). */
void netio_inq_wake(struct netio_lane *lane);

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
