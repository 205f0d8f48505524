// SPDX-License-Identifier: GPL-2.0
#include "inq.h"
#include "queue.h"

static bool netio_over_mark(const struct netio_port *sh)
{
	u32 mark = READ_ONCE(sh->mark_bytes);

	return mark && READ_ONCE(sh->q_bytes) > mark;
}

bool netio_congestion(struct netio_iface *iface)
{
	struct netio_port *sh = iface->sh;
	bool was = READ_ONCE(sh->state) & NETIO_PORT_S_CONGESTED, is, now;

	smp_mb(); /* the caller's change before the look */
	now = netio_over_mark(sh);
	do {
		is = now;
		if (is)
			atomic_or(NETIO_PORT_S_CONGESTED, (atomic_t *)&sh->state);
		else
			atomic_andnot(NETIO_PORT_S_CONGESTED, (atomic_t *)&sh->state);
		smp_mb(); /* of several who write, the last one looks again */
		now = netio_over_mark(sh);
	} while (now != is);
	return is != was;
}

void netio_queued(struct netio_iface *iface, int packets, int bytes)
{
	struct netio_port *sh = iface->sh;
	u32 mark, now, before;

	atomic_add(packets, (atomic_t *)&sh->q_packets);
	now = atomic_add_return(bytes, (atomic_t *)&sh->q_bytes);
	/* After the bytes: who changes it looks at them afterwards. */
	mark = READ_ONCE(sh->mark_bytes);
	if (likely(!mark))
		return;
	before = now - bytes;
	if ((before > mark) == (now > mark))
		return;
	netio_congestion(iface);
	netio_event_qos(iface->inst, iface->port);
}
