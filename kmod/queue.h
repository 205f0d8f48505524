/* SPDX-License-Identifier: GPL-2.0 */
/* Transmit queue lengths (paper, section 5), and who is told of them. */
#ifndef NETIO_QUEUE_H
#define NETIO_QUEUE_H

#include "iface.h"

/* Counts packets of one port into or out of its transmit queue length. */
void netio_queued(struct netio_iface *iface, int packets, int bytes);

/*
 * Has the port's CONGESTED say what its queue is, after either has changed; true:
 * that is something else than before.
 */
bool netio_congestion(struct netio_iface *iface);

#endif /* NETIO_QUEUE_H */
