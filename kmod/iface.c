// SPDX-License-Identifier: GPL-2.0
#include <linux/slab.h>
#include <net/dst.h>
#include <net/netfilter/nf_conntrack.h>

#include "compat.h"
#include "inq.h"
#include "iface.h"
#include "packet.h"
#include "queue.h"
#include "trace.h"
#include "walk.h"

/* Ports whose backlogs have their turn at a time. */
#define NETIO_BACKLOGS	16
/* Packets of a backlog, whatever txqueuelen a pod has chosen. */
#define NETIO_BACKLOG_MAX	16384U

static u32 netio_default_quota(const struct netio_instance *inst)
{
	return max(inst->nbuf_count / 8, 64U);
}

/*
 * Ports that an nbuf in the process's hands names, in bits: a number must not be
 * used anew while a packet for its former owner is on its way.
 */
static unsigned long *netio_ports_named(struct netio_instance *inst)
{
	unsigned long *named = kvcalloc(BITS_TO_LONGS(inst->port_max), sizeof(long),
					GFP_KERNEL);
	u32 i;

	if (!named)
		return NULL;
	/* Another walk may have taken an nbuf for a moment. */
	netio_walk_begin(inst);
	for (i = 0; i < inst->nbuf_count; i++) {
		struct netio_nb *nb = &inst->nb[i];
		u32 port = READ_ONCE(nb->buf->eport);

		netio_walk_pause(inst, i);
		if (READ_ONCE(nb->owner) == NETIO_NB_PROCESS && port < inst->port_max)
			__set_bit(array_index_nospec(port, inst->port_max), named);
	}
	netio_walk_end(inst);
	return named;
}

/*
 * A number that was never used, else the one that has been free for longest.
 * ENOSPC, ENOMEM.
 */
static int netio_port_choose(struct netio_instance *inst, u32 *chosen)
{
	unsigned long *named;
	u32 best = 0, port;

	while (inst->port_next < inst->port_max) {
		port = inst->port_next++;
		if (!rtnl_dereference(inst->ifaces[port])) {
			*chosen = port;
			return 0;
		}
	}
	if (inst->port_count == inst->port_max - 1)
		return -ENOSPC;
	named = netio_ports_named(inst);
	if (!named)
		return -ENOMEM;
	for (port = 1; port < inst->port_max; port++) {
		if (rtnl_dereference(inst->ifaces[port]) || test_bit(port, named))
			continue;
		if (best && (s32)(inst->port_removed[port] -
				  inst->port_removed[best]) >= 0)
			continue;
		best = port;
	}
	kvfree(named);
	*chosen = best;
	return best ? 0 : -ENOSPC;
}

/* Under wait_lock. */
static void netio_backlog_wait(struct netio_iface *iface)
{
	list_add_tail(&iface->waiting, &iface->inst->waiting);
	WRITE_ONCE(iface->inst->waiting_count, iface->inst->waiting_count + 1);
}

static void netio_backlog_unwait(struct netio_iface *iface)
{
	if (list_empty(&iface->waiting))
		return;
	list_del_init(&iface->waiting);
	WRITE_ONCE(iface->inst->waiting_count, iface->inst->waiting_count - 1);
}

int netio_iface_add(struct netio_iface *iface, struct netio_instance *inst,
		    struct net_device *dev, const struct netio_iface_choice *c,
		    struct netlink_ext_ack *extack)
{
	u32 port = c->port, quota = c->quota, generation;
	int err;

	ASSERT_RTNL();
	if (READ_ONCE(inst->dead))
		return -ENODEV;
	if (c->flags & ~NETIO_PORT_F_WHOLE) {
		NL_SET_ERR_MSG(extack, "unknown port flags");
		return -EINVAL;
	}
	if (quota > NETIO_NBUFS_MAX) {
		NL_SET_ERR_MSG(extack, "quota is larger than an instance can be");
		return -EINVAL;
	}
	if (port >= inst->port_max) {
		NL_SET_ERR_MSG(extack, "port number is beyond the instance's last");
		return -EINVAL;
	}
	if (!port) {
		err = netio_port_choose(inst, &port);
		if (err == -ENOSPC)
			NL_SET_ERR_MSG(extack, "all port numbers of the instance are in use");
		if (err)
			return err;
	}
	if (rtnl_dereference(inst->ifaces[port])) {
		NL_SET_ERR_MSG(extack, "port number is in use");
		return -EEXIST;
	}
	iface->label = kstrdup(c->label ?: "", GFP_KERNEL_ACCOUNT);
	if (!iface->label)
		return -ENOMEM;
	iface->inst = inst;
	iface->dev = dev;
	iface->port = port;
	iface->sh = &inst->ports[port];
	iface->backlogged = false;
	skb_queue_head_init(&iface->backlog);
	INIT_LIST_HEAD(&iface->waiting);
	generation = iface->sh->generation + 1;
	memset(iface->sh, 0, sizeof(*iface->sh));
	iface->sh->generation = generation;
	iface->sh->flags = c->flags;
	iface->sh->nbuf_quota = quota ?: netio_default_quota(inst);
	iface->sh->mtu = dev->mtu;
	WRITE_ONCE(iface->sh->state,
		   NETIO_PORT_S_PRESENT | (iface->ops ? NETIO_PORT_S_NIC : 0));
	netio_instance_hold(inst);
	inst->port_count++;
	rcu_assign_pointer(inst->ifaces[port], iface);
	netio_event_port(inst, port);
	return 0;
}

void netio_iface_hide(struct netio_iface *iface)
{
	struct netio_instance *inst = iface->inst;

	ASSERT_RTNL();
	RCU_INIT_POINTER(inst->ifaces[iface->port], NULL);
	inst->port_count--;
	inst->port_removed[iface->port] = inst->port_removals++;
}

void netio_iface_remove(struct netio_iface *iface)
{
	struct netio_instance *inst = iface->inst;

	ASSERT_RTNL();
	if (rtnl_dereference(inst->ifaces[iface->port]) == iface) {
		netio_iface_hide(iface);
		synchronize_net();
	}
	netio_backlog_purge(iface);
	spin_lock_bh(&inst->wait_lock);
	netio_backlog_unwait(iface);
	spin_unlock_bh(&inst->wait_lock);
	netio_walk_forget(inst, iface->port);
	WRITE_ONCE(iface->sh->state, 0);
	iface->sh->mtu = 0;
	iface->sh->nbuf_quota = 0;
	iface->sh->mark_bytes = 0;
	iface->sh->flags = 0;
	netio_event_port(inst, iface->port);
	kfree(iface->label);
	iface->label = NULL;
	iface->inst = NULL;
	netio_instance_put(inst);
}

void netio_iface_state(struct netio_iface *iface, bool up)
{
	/* Packets change CONGESTED at the same time. */
	if (up)
		atomic_or(NETIO_PORT_S_UP, (atomic_t *)&iface->sh->state);
	else
		atomic_andnot(NETIO_PORT_S_UP, (atomic_t *)&iface->sh->state);
	netio_event_port(iface->inst, iface->port);
}

void netio_iface_mtu(struct netio_iface *iface, u32 mtu)
{
	WRITE_ONCE(iface->sh->mtu, mtu);
	netio_event_port(iface->inst, iface->port);
}

int netio_iface_set(struct netio_iface *iface, const struct netio_set_port *s)
{
	if ((s->flags != ~0U && s->flags & ~NETIO_PORT_F_WHOLE) ||
	    (s->nbuf_quota != ~0U && s->nbuf_quota > NETIO_NBUFS_MAX))
		return -EINVAL;
	if (s->flags != ~0U)
		WRITE_ONCE(iface->sh->flags, s->flags);
	if (s->nbuf_quota != ~0U)
		WRITE_ONCE(iface->sh->nbuf_quota,
			   s->nbuf_quota ?: netio_default_quota(iface->inst));
	if (s->mark_bytes != ~0U) {
		WRITE_ONCE(iface->sh->mark_bytes, s->mark_bytes);
		if (netio_congestion(iface))
			netio_event_qos(iface->inst, iface->port);
	}
	local_bh_disable();
	netio_backlogs(iface->inst);
	local_bh_enable();
	return 0;
}

bool netio_iface_park(struct netio_iface *iface, u32 parked)
{
	struct netio_instance *inst = iface->inst;
	atomic_t *bytes = (atomic_t *)&iface->sh->parked_bytes;

	if ((u32)atomic_add_return(parked, bytes) > inst->parked_port_max)
		goto heavy;
	if (atomic64_add_return(parked, &inst->parked) <= (s64)inst->parked_max)
		return true;
	atomic64_sub(parked, &inst->parked);
heavy:
	atomic_sub(parked, bytes);
	return false;
}

void netio_iface_uncharge(struct netio_iface *iface, u32 nbufs, u32 parked)
{
	atomic_sub(nbufs, (atomic_t *)&iface->sh->nbufs);
	if (!parked)
		return;
	atomic64_sub(parked, &iface->inst->parked);
	atomic_sub(parked, (atomic_t *)&iface->sh->parked_bytes);
}

void netio_iface_rx_drop(struct netio_iface *iface, u32 len,
			 enum netio_drop_reason reason)
{
	trace_netio_drop(iface->inst, iface->port, len, reason);
	atomic64_inc((atomic64_t *)&iface->sh->rx_drop);
	if (!iface->ops)
		DEV_STATS_INC(iface->dev, tx_dropped);
}

void netio_iface_tx_drop(struct netio_iface *iface, u32 len,
			 enum netio_drop_reason reason)
{
	trace_netio_drop(iface->inst, iface->port, len, reason);
	atomic64_inc((atomic64_t *)&iface->sh->tx_drop);
}

static void netio_iface_drop(struct netio_iface *iface, struct sk_buff *skb,
			     enum netio_drop_reason reason)
{
	netio_iface_rx_drop(iface, skb->len, reason);
	kfree_skb(skb);
}

static bool netio_backlog_run(struct netio_iface *iface);

static void netio_backlog_add(struct netio_iface *iface, struct sk_buff *skb)
{
	struct netio_instance *inst = iface->inst;
	bool full;

	atomic64_inc((atomic64_t *)&inst->lanes[0].d->rx_no_nbuf);
	/* It waits without a hold on its route and connection, as in an nbuf. */
	skb_dst_drop(skb);
	nf_reset_ct(skb);
	spin_lock(&iface->backlog.lock);
	full = skb_queue_len(&iface->backlog) >=
	       min(READ_ONCE(iface->dev->tx_queue_len), NETIO_BACKLOG_MAX);
	if (!full) {
		__skb_queue_tail(&iface->backlog, skb);
		WRITE_ONCE(iface->backlogged, true);
	}
	spin_unlock(&iface->backlog.lock);
	if (full) {
		netio_iface_drop(iface, skb, NETIO_DROP_RX_NO_NBUF);
		return;
	}
	spin_lock(&inst->wait_lock);
	if (list_empty(&iface->waiting))
		netio_backlog_wait(iface);
	spin_unlock(&inst->wait_lock);
	smp_mb(); /* what was freed before it waited did not wake it */
	netio_backlog_run(iface);
}

void netio_iface_refused(struct netio_iface *iface, struct sk_buff *skb, int err)
{
	if (err == -ENOBUFS)
		netio_backlog_add(iface, skb);
	else
		netio_iface_drop(iface, skb, NETIO_DROP_RX_NO_PACKET);
}

/* false: it has to wait on. */
static bool netio_backlog_run(struct netio_iface *iface)
{
	struct sk_buff *skb;
	int budget = NETIO_RUN_MAX, err;

	spin_lock(&iface->backlog.lock);
	while ((skb = skb_peek(&iface->backlog)) != NULL && budget-- > 0) {
		__skb_unlink(skb, &iface->backlog);
		err = netio_packet_receive(iface, skb);
		if (err == -ENOBUFS) {
			__skb_queue_head(&iface->backlog, skb);
			break;
		}
		if (err)
			netio_iface_drop(iface, skb, NETIO_DROP_RX_NO_PACKET);
	}
	/* Cleared only now: no packet may overtake. */
	if (!skb)
		WRITE_ONCE(iface->backlogged, false);
	spin_unlock(&iface->backlog.lock);
	return !skb;
}

void netio_backlogs(struct netio_instance *inst)
{
	struct netio_iface *iface, *last;
	int budget = NETIO_BACKLOGS;

	smp_mb(); /* what was freed is there for who begins to wait now */
	if (likely(list_empty_careful(&inst->waiting)))
		return;
	spin_lock(&inst->wait_lock);
	last = list_empty(&inst->waiting) ? NULL :
		list_last_entry(&inst->waiting, struct netio_iface, waiting);
	while (last) {
		iface = list_first_entry(&inst->waiting, struct netio_iface,
					 waiting);
		netio_backlog_unwait(iface);
		if (!netio_backlog_run(iface))
			netio_backlog_wait(iface);
		if (iface == last || !--budget)
			break;
	}
	spin_unlock(&inst->wait_lock);
}

void netio_backlog_purge(struct netio_iface *iface)
{
	skb_queue_purge(&iface->backlog);
	WRITE_ONCE(iface->backlogged, false);
}
