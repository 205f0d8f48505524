/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An interface of an instance: what a port number stands for. A knet, or a NIC
 * that works for NetIO.
 */
#ifndef NETIO_IFACE_H
#define NETIO_IFACE_H

#include <linux/nospec.h>
#include <linux/rtnetlink.h>

#include "instance.h"

struct netio_iface;

/* What an interface that is no knet does in its own way. */
struct netio_iface_ops {
	/* Sends a packet that has its L3 header at skb->data. Under RCU, softirqs off. */
	void (*transmit)(struct netio_iface *iface, struct sk_buff *skb);
	/* After the last packet of a run. */
	void (*flush)(struct netio_iface *iface);
	/* DEL_PORT, or the end of the instance's network namespace. rtnl is held. */
	void (*remove)(struct netio_iface *iface);
};

struct netio_iface {
	const struct netio_iface_ops *ops;	/* NULL: a knet */
	struct netio_instance *inst;
	struct netio_port *sh;	/* shared, written by the device alone */
	struct net_device *dev;
	u32 port;
	char *label;
	/*
	 * Packets that found no nbuf, quota, or room to park. It stands in for a
	 * queueing discipline, which would cost each packet something.
	 */
	struct sk_buff_head backlog;
	bool backlogged;	/* later packets have to queue up */
	struct list_head waiting;	/* inst->waiting, under inst->wait_lock */
};

/* What is chosen of a new interface; 0 is the default. */
struct netio_iface_choice {
	u32 port, quota, flags;
	const char *label;
};

/*
 * Gives iface a number and makes it known. rtnl is held. Errors: EINVAL, EEXIST
 * for a number in use, ENOSPC for too many ports, ENODEV for a dead instance.
 */
int netio_iface_add(struct netio_iface *iface, struct netio_instance *inst,
		    struct net_device *dev, const struct netio_iface_choice *c,
		    struct netlink_ext_ack *extack);

/*
 * Takes its number away, before a grace period that somebody else waits for and
 * netio_iface_remove(). rtnl is held.
 */
void netio_iface_hide(struct netio_iface *iface);

/*
 * Undoes it. The interface must not send any more. Packets from it that the
 * process holds stay its, but are charged to no socket. rtnl is held.
 */
void netio_iface_remove(struct netio_iface *iface);

/* Up and down, MTU. rtnl is held. */
void netio_iface_state(struct netio_iface *iface, bool up);
void netio_iface_mtu(struct netio_iface *iface, u32 mtu);

/* -1 leaves a value as it is. EINVAL. */
int netio_iface_set(struct netio_iface *iface, const struct netio_set_port *s);

/* The interface of a number, under RCU, or NULL. */
static inline struct netio_iface *
netio_iface_get(struct netio_instance *inst, u32 port)
{
	if (unlikely(port >= inst->port_max))
		return NULL;
	port = array_index_nospec(port, inst->port_max);
	return rcu_dereference_check(inst->ifaces[port],
				     rcu_read_lock_bh_held() ||
				     lockdep_rtnl_is_held());
}

/* The part of netio_iface_charge() for parked bytes. */
bool netio_iface_park(struct netio_iface *iface, u32 parked);

/*
 * Charges nbufs and parked bytes to the port; false: it has as much as it
 * may have. Softirqs are off.
 */
static inline bool netio_iface_charge(struct netio_iface *iface, u32 nbufs,
				      u32 parked)
{
	struct netio_port *sh = iface->sh;

	if (likely((u32)atomic_add_return(nbufs, (atomic_t *)&sh->nbufs) <=
		   READ_ONCE(sh->nbuf_quota)) &&
	    (!parked || netio_iface_park(iface, parked)))
		return true;
	atomic_sub(nbufs, (atomic_t *)&sh->nbufs);
	return false;
}

void netio_iface_uncharge(struct netio_iface *iface, u32 nbufs, u32 parked);

/* What netio_packet_receive() has refused: into the backlog, or dropped. */
void netio_iface_refused(struct netio_iface *iface, struct sk_buff *skb, int err);

/* Why a packet ends that came from a port (RX), or was to go there (TX). */
enum netio_drop_reason {
	NETIO_DROP_RX_NO_NBUF,
	NETIO_DROP_RX_NO_PACKET,	/* its headers are wrong */
	NETIO_DROP_RX_NO_MEMORY,
	NETIO_DROP_RX_DOWN,
	NETIO_DROP_TX_NO_PORT,
	NETIO_DROP_TX_DOWN,
	NETIO_DROP_TX_TOO_LONG,
	NETIO_DROP_TX_NO_NEIGHBOUR,
	NETIO_DROP_TX_REFUSED,		/* by the NIC, or its queue */
	NETIO_DROP_TX_NO_MEMORY,
	NETIO_DROP_TX_LOST,		/* its parked payload is gone */
};

/* Counts a packet of len bytes that is dropped; the caller frees it. */
void netio_iface_rx_drop(struct netio_iface *iface, u32 len,
			 enum netio_drop_reason reason);
void netio_iface_tx_drop(struct netio_iface *iface, u32 len,
			 enum netio_drop_reason reason);

/* Lets backlogs go on after nbufs have been freed. Softirqs are off. */
void netio_backlogs(struct netio_instance *inst);

/* Frees what waits in the backlog. */
void netio_backlog_purge(struct netio_iface *iface);

#endif /* NETIO_IFACE_H */
