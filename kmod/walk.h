/* SPDX-License-Identifier: GPL-2.0 */
/* Walks over all nbufs of an instance, for what they hold of one port or lane. */
#ifndef NETIO_WALK_H
#define NETIO_WALK_H

#include "nbuf.h"

/* Keeps the OutQs' services away from who walks over all nbufs, softirqs off. */
void netio_walk_begin(struct netio_instance *inst);
void netio_walk_end(struct netio_instance *inst);

/* Nbufs that are walked over at a time. */
#define NETIO_WALK	1024

/* At nbuf i of a walk: lets others have their turn, now and then. May sleep. */
void netio_walk_pause(struct netio_instance *inst, u32 i);

/* What was received from a port is charged to nobody any more. */
void netio_walk_forget(struct netio_instance *inst, u32 port);

/* Frees the packets, not the nbufs, that wait on the lane's InQ. */
void netio_walk_unpark(struct netio_lane *lane);

#endif /* NETIO_WALK_H */
