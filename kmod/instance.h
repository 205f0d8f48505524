/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NETIO_INSTANCE_H
#define NETIO_INSTANCE_H

#include <linux/hrtimer.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "memory.h"

struct netio_iface;
struct netio_nb;
struct netio_nb_cache;

/* Nbufs of one packet: 64 KiB, in whatever pieces. */
#define NETIO_CHAIN_MAX		64
/* OutQ entries that one run of the service takes (NAPI's usual budget). */
#define NETIO_RUN_MAX		64
/* Nbufs that one WANT gives; see NETIO_OUT_WANT. */
#define NETIO_WANT_MAX		16384

/*
 * One InQ and one OutQ.
 *
 * Locks: the InQ has none, its producers reserve slots by counting up
 * dlane->inq_tail, which the process cannot write. The OutQ's consumer holds
 * out_lock, softirqs off, from the look at entries until their packets are
 * delivered, which keeps these in order; no lock that delivery takes is held by
 * who takes it. walk_lock, for reading inside, is not held for delivery.
 */
struct netio_lane {
	struct netio_instance *inst;
	struct netio_dlane *d;
	struct netio_plane *p;
	u32 *inq;
	u32 *outq;
	u32 mask;		/* of a position: its slot */
	u8 order;		/* of both rings, as in inst */
	u8 number;

	/* InQ */
	u32 woken;		/* the process's sleep that was last ended */
	wait_queue_head_t wait;
	atomic_t drops;		/* DROPS that are not yet told */
	atomic_t denied;	/* DENIED likewise */

	/* OutQ */
	spinlock_t out_lock	/* all below */ ____cacheline_aligned_in_smp;
	u32 head;
	bool awake;		/* no KICK is needed */
	u32 recent;		/* entries taken since recent_at */
	unsigned long recent_at;	/* jiffies */
	bool busy;		/* entries come fast: poll instead of sleeping */
	u32 partial;		/* entries of a packet whose end is not there yet */
	bool chain_refused;	/* the rest of a chain that was too long comes */
	struct napi_struct napi;
	struct hrtimer deadman;

	/* the owner's pulse, for the instance's work alone; a new owner begins anew */
	u32 heartbeat;		/* sum of what moves */
	unsigned long heartbeat_at;	/* jiffies; READ_ONCE, WRITE_ONCE */
} ____cacheline_aligned_in_smp;

/* Ports, a bit each, and a bit for each group of them that has any. */
struct netio_port_set {
	unsigned long *ports;
	unsigned long *groups;	/* of NETIO_PORT_GROUP ports */
};

#define NETIO_PORT_GROUP	4096

/* What one process owns at a time (paper, section 5). */
struct netio_instance {
	struct kref ref;	/* its list, each file, map, and interface */
	struct work_struct release;	/* after the last put, which may be anywhere */
	struct list_head node;	/* netio_net.instances, under netio_net.lock */
	struct net *net;	/* not counted: it ends its instances */
	char name[NETIO_NAME_MAX];
	struct netio_memory mem;
	struct netio_area *area;
	struct netio_port *ports;	/* shared */
	u32 lane_count;
	u32 nbuf_count;
	u32 port_max;
	u32 order;		/* of the rings */

	/* nbufs: see nbuf.h */
	struct netio_nb *nb;
	struct netio_nb_cache __percpu *caches;
	spinlock_t free_lock;	/* of free and free_count */
	u32 *free;
	u32 free_count;
	atomic_t walkers;	/* who want walk_lock for writing */
	rwlock_t walk_lock;	/* write: who walks over all nbufs; read: an OutQ's run */
	atomic64_t parked;	/* bytes */
	u64 parked_max;
	u64 parked_port_max;

	/* ports: written under rtnl, read under RCU */
	struct netio_iface __rcu **ifaces;
	u32 port_count;
	u32 port_next;		/* numbers from here on were never used */
	u32 *port_removed;	/* when a number was removed: a count, 0: never used */
	u32 port_removals;
	u32 drivers;		/* ports that send nbufs by themselves */
	spinlock_t wait_lock;	/* outside a backlog's lock */
	struct list_head waiting;	/* interfaces with a backlog */
	u32 waiting_count;
	struct netio_port_set port_events;	/* whose PORT event is not yet told */
	struct netio_port_set qos_events;
	atomic_t events;	/* ports in both */

	/* ownership */
	struct mutex lock;	/* outside rtnl */
	u64 epoch;		/* READ_ONCE by whom asks whether it still owns */
	struct pid *owner;	/* thread group, NULL: none */
	unsigned int owner_files;
	bool dead;		/* destroyed */

	struct net_device *dummy;	/* for NAPI */
	struct delayed_work pulse;
	struct netio_lane lanes[];
};

struct netio_net {
	struct mutex lock;	/* inside rtnl */
	struct list_head instances;
};

struct netio_net *netio_net(struct net *net);

/* What ATTACH chooses of a new instance; 0 is the default. */
struct netio_choice {
	const char *name;
	u32 lanes, nbufs, ports, parked_max;
};

/*
 * The instance of that name in net, with a reference, or an ERR_PTR: ENOENT
 * if there is none. Sleeps.
 */
struct netio_instance *netio_instance_find(struct net *net, const char *name);

/*
 * The instance at a place in the list of net, with a reference, or NULL. Places
 * change when instances end. Sleeps.
 */
struct netio_instance *netio_instance_at(struct net *net, u32 place);

/*
 * Makes an instance, or finds the one of that name. ERR_PTR: EINVAL for values
 * out of range, ENOMEM, EINTR for a process that is being killed. Sleeps.
 */
struct netio_instance *netio_instance_get(struct net *net,
					  const struct netio_choice *c);

/* In any context. */
void netio_instance_put(struct netio_instance *inst);

static inline void netio_instance_hold(struct netio_instance *inst)
{
	kref_get(&inst->ref);
}

/* Takes it out of its list. EBUSY while it has ports. inst->lock is held. */
int netio_instance_destroy(struct netio_instance *inst);

/*
 * Makes the rings and nbufs ready for a new owner: the OutQ's entries are
 * carried out, nbufs that were in the last owner's hands are taken back, what
 * it has not read stays. inst->lock is held.
 */
void netio_instance_hand_over(struct netio_instance *inst);

int netio_instances_init(void);
void netio_instances_exit(void);

extern u32 netio_start_position;

#endif /* NETIO_INSTANCE_H */
