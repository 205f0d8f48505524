// SPDX-License-Identifier: GPL-2.0
#include <linux/bitmap.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>
#include <net/netns/generic.h>

#include "compat.h"
#include "iface.h"
#include "inq.h"
#include "instance.h"
#include "knet.h"
#include "nbuf.h"
#include "outq.h"
#include "show.h"
#include "trace.h"
#include "walk.h"

#define NETIO_NBUFS_DEFAULT	8192
#define NETIO_PORTS_DEFAULT	65536
/* Parked bytes per nbuf, on average, and the part of all that one port may have. */
#define NETIO_PARKED_PER_NBUF	8192
#define NETIO_PARKED_PORT_SHARE	2
/* A whole packet of the largest size fits into either. */
#define NETIO_PARKED_MIN	0x10000

/* How often owners' pulses are felt, and when one is dead by default. */
#define NETIO_PULSE		(HZ / 10)
#define NETIO_DEAD_MS		1000

u32 netio_start_position;

static unsigned int netio_net_id __read_mostly;
static struct workqueue_struct *netio_releases;

struct netio_net *netio_net(struct net *net)
{
	return net_generic(net, netio_net_id);
}

/* --- pulse --------------------------------------------------------------- */

/*
 * A process that is stuck or gone holds packets, and their senders with them:
 * TCP does not send again what it believes to be in a queue of this host.
 */
static void netio_lane_pulse(struct netio_lane *lane)
{
	/* Whatever moves is a sign of life. */
	u32 beat = READ_ONCE(lane->p->heartbeat) + READ_ONCE(lane->p->inq_head) +
		   READ_ONCE(lane->head);
	u32 dead_ms = READ_ONCE(lane->p->dead_ms) ?: NETIO_DEAD_MS;

	if (beat != lane->heartbeat || !netio_inq_pending(lane)) {
		lane->heartbeat = beat;
		WRITE_ONCE(lane->heartbeat_at, jiffies);
		return;
	}
	if (time_before(jiffies, READ_ONCE(lane->heartbeat_at) +
				 msecs_to_jiffies(min(dead_ms, 3600000U))))
		return;
	trace_netio_hung(lane, READ_ONCE(lane->d->inq_tail));
	netio_walk_unpark(lane);
	WRITE_ONCE(lane->heartbeat_at, jiffies);
}

static void netio_pulse(struct work_struct *work)
{
	struct netio_instance *inst = container_of(to_delayed_work(work),
						   struct netio_instance, pulse);
	u32 i;

	for (i = 0; i < inst->lane_count; i++) {
		struct netio_lane *lane = &inst->lanes[i];

		netio_lane_pulse(lane);
		netio_outq_nudge(lane);
		local_bh_disable();
		netio_inq_events(lane);
		netio_inq_wake(lane);
		netio_backlogs(inst);
		local_bh_enable();
	}
	queue_delayed_work(system_power_efficient_wq, &inst->pulse, NETIO_PULSE);
}

/* --- making and freeing ------------------------------------------------- */

/* Makes each slot look as if its entry had not been written yet. */
static void netio_ring_start(u32 *ring, u32 order, u32 pos)
{
	u32 i;

	for (i = 0; i < 1U << order; i++, pos++)
		ring[pos & ((1U << order) - 1)] =
			NETIO_TOGGLE(pos, order) ^ NETIO_ENT_TOGGLE;
}

static void netio_lane_init(struct netio_instance *inst, u32 number)
{
	struct netio_lane *lane = &inst->lanes[number];
	const struct netio_area *a = inst->area;
	void *base = inst->mem.control;
	u32 pos = READ_ONCE(netio_start_position);
	u64 ring = (u64)number * 4 << inst->order;

	lane->inst = inst;
	lane->number = number;
	lane->order = inst->order;
	lane->mask = (1U << inst->order) - 1;
	lane->d = base + a->dlane_off + (u64)number * NETIO_PAGE_SIZE;
	lane->p = base + a->plane_off + (u64)number * NETIO_PAGE_SIZE;
	lane->inq = base + a->inq_off + ring;
	lane->outq = base + a->outq_off + ring;
	netio_ring_start(lane->inq, inst->order, pos);
	netio_ring_start(lane->outq, inst->order, pos);
	lane->head = pos;
	lane->d->outq_head = pos;
	lane->d->outq_start = pos;
	lane->d->inq_tail = pos;
	lane->d->inq_start = pos;
	lane->d->sleep_seq = 1;
	lane->p->inq_head = pos;
	lane->p->outq_tail = pos;
	lane->heartbeat_at = jiffies;
	lane->recent_at = jiffies;
	init_waitqueue_head(&lane->wait);
	netio_outq_init(lane);
}

static int netio_port_set_init(struct netio_port_set *set, u32 ports)
{
	set->ports = kvcalloc(BITS_TO_LONGS(ports), sizeof(long), GFP_KERNEL_ACCOUNT);
	set->groups = bitmap_zalloc(DIV_ROUND_UP(ports, NETIO_PORT_GROUP),
				    GFP_KERNEL_ACCOUNT);
	return set->ports && set->groups ? 0 : -ENOMEM;
}

static void netio_port_set_free(struct netio_port_set *set)
{
	kvfree(set->ports);
	bitmap_free(set->groups);
}

/* Frees what there is, also of one that was not made to its end. */
static void netio_instance_free(struct netio_instance *inst)
{
	u32 i;

	if (inst->pulse.work.func)
		cancel_delayed_work_sync(&inst->pulse);
	for (i = 0; i < inst->lane_count && inst->lanes[i].inst; i++)
		netio_outq_stop(&inst->lanes[i]);
	synchronize_net();
	for (i = 0; i < inst->lane_count && inst->lanes[i].inst; i++)
		netio_outq_exit(&inst->lanes[i]);
	netio_nbs_exit(inst);
	kvfree(inst->ifaces);
	kvfree(inst->port_removed);
	netio_port_set_free(&inst->port_events);
	netio_port_set_free(&inst->qos_events);
	if (inst->dummy)
		netio_free_dummy(inst->dummy);
	netio_memory_free(&inst->mem);
	put_pid(inst->owner);
	kvfree(inst);
}

static void netio_instance_release(struct work_struct *work)
{
	netio_instance_free(container_of(work, struct netio_instance, release));
}

static struct netio_instance *netio_instance_new(struct net *net,
						 const struct netio_choice *c)
{
	u32 lanes = c->lanes ?: 1, nbufs = c->nbufs ?: NETIO_NBUFS_DEFAULT;
	u32 ports = c->ports ?: NETIO_PORTS_DEFAULT, i;
	struct netio_instance *inst;
	struct netio_area hdr;
	int err;

	err = netio_memory_layout(&hdr, lanes, nbufs, ports);
	if (err)
		return ERR_PTR(err);
	inst = kvzalloc(struct_size(inst, lanes, lanes), GFP_KERNEL_ACCOUNT);
	if (!inst)
		return ERR_PTR(-ENOMEM);
	kref_init(&inst->ref);
	INIT_WORK(&inst->release, netio_instance_release);
	INIT_LIST_HEAD(&inst->node);
	mutex_init(&inst->lock);
	spin_lock_init(&inst->wait_lock);
	rwlock_init(&inst->walk_lock);
	INIT_LIST_HEAD(&inst->waiting);
	inst->net = net;
	strscpy(inst->name, c->name, sizeof(inst->name));
	strscpy(hdr.name, c->name, sizeof(hdr.name));
	inst->lane_count = lanes;
	inst->nbuf_count = nbufs;
	inst->port_max = ports;
	inst->port_next = 1;
	inst->order = hdr.inq_order;
	inst->parked_max = max_t(u64, NETIO_PARKED_MIN,
				 c->parked_max ?: (u64)nbufs * NETIO_PARKED_PER_NBUF);
	inst->parked_max = min_t(u64, inst->parked_max, U32_MAX);
	inst->parked_port_max = max_t(u64, NETIO_PARKED_MIN,
				      inst->parked_max / NETIO_PARKED_PORT_SHARE);

	err = netio_memory_alloc(&inst->mem, &hdr);
	if (err)
		goto fail;
	inst->area = inst->mem.control;
	inst->ports = inst->mem.control + hdr.port_off;
	err = netio_nbs_init(inst);
	if (err)
		goto fail;
	err = -ENOMEM;
	inst->ifaces = kvcalloc(ports, sizeof(*inst->ifaces), GFP_KERNEL_ACCOUNT);
	inst->port_removed = kvcalloc(ports, sizeof(*inst->port_removed),
				      GFP_KERNEL_ACCOUNT);
	inst->dummy = alloc_netdev_dummy(0);
	if (!inst->ifaces || !inst->port_removed || !inst->dummy ||
	    netio_port_set_init(&inst->port_events, ports) ||
	    netio_port_set_init(&inst->qos_events, ports))
		goto fail;
	for (i = 0; i < lanes; i++)
		netio_lane_init(inst, i);
	INIT_DELAYED_WORK(&inst->pulse, netio_pulse);
	queue_delayed_work(system_power_efficient_wq, &inst->pulse, NETIO_PULSE);
	return inst;
fail:
	netio_instance_free(inst);
	return ERR_PTR(err);
}

static void netio_instance_last(struct kref *ref)
{
	/* The last may be of a map or a knet: under mmap_lock, or rtnl. */
	queue_work(netio_releases,
		   &container_of(ref, struct netio_instance, ref)->release);
}

void netio_instance_put(struct netio_instance *inst)
{
	kref_put(&inst->ref, netio_instance_last);
}

static struct netio_instance *netio_lookup(struct netio_net *nn, const char *name)
{
	struct netio_instance *inst;

	list_for_each_entry(inst, &nn->instances, node)
		if (!strcmp(inst->name, name)) {
			netio_instance_hold(inst);
			return inst;
		}
	return NULL;
}

struct netio_instance *netio_instance_find(struct net *net, const char *name)
{
	struct netio_net *nn = netio_net(net);
	struct netio_instance *inst;

	mutex_lock(&nn->lock);
	inst = netio_lookup(nn, name);
	mutex_unlock(&nn->lock);
	return inst ?: ERR_PTR(-ENOENT);
}

struct netio_instance *netio_instance_at(struct net *net, u32 place)
{
	struct netio_net *nn = netio_net(net);
	struct netio_instance *inst, *found = NULL;

	mutex_lock(&nn->lock);
	list_for_each_entry(inst, &nn->instances, node)
		if (!place--) {
			netio_instance_hold(inst);
			found = inst;
			break;
		}
	mutex_unlock(&nn->lock);
	return found;
}

struct netio_instance *netio_instance_get(struct net *net,
					  const struct netio_choice *c)
{
	struct netio_net *nn = netio_net(net);
	struct netio_instance *inst, *new;

	inst = netio_instance_find(net, c->name);
	if (!IS_ERR(inst))
		return inst;
	/* It may take long, and who makes a knet waits for the lock under rtnl. */
	new = netio_instance_new(net, c);
	if (IS_ERR(new))
		return new;
	mutex_lock(&nn->lock);
	inst = netio_lookup(nn, c->name);
	if (!inst) {
		/* An instance is in use, whoever owns it. */
		__module_get(THIS_MODULE);
		list_add_tail(&new->node, &nn->instances);
		netio_instance_hold(new);
	}
	mutex_unlock(&nn->lock);
	if (!inst)
		return new;
	/* Somebody else has made one meanwhile. */
	netio_instance_put(new);
	return inst;
}

/* Takes it out of the list of nn, whose lock is held. */
static void netio_instance_unlist(struct netio_instance *inst)
{
	u32 i;

	list_del_init(&inst->node);
	for (i = 0; i < inst->lane_count; i++)
		wake_up_interruptible_all(&inst->lanes[i].wait);
	module_put(THIS_MODULE);
	netio_instance_put(inst);
}

int netio_instance_destroy(struct netio_instance *inst)
{
	struct netio_net *nn = netio_net(inst->net);
	int err = 0;

	lockdep_assert_held(&inst->lock);
	rtnl_lock(); /* after this no port is added */
	if (inst->port_count)
		err = -EBUSY;
	else
		WRITE_ONCE(inst->dead, true);
	rtnl_unlock();
	if (err)
		return err;
	mutex_lock(&nn->lock);
	if (!list_empty(&inst->node))
		netio_instance_unlist(inst);
	mutex_unlock(&nn->lock);
	return 0;
}

/* --- a new owner ----------------------------------------------------------- */

/*
 * Whether what is on the InQ from pos to tail is what is unread. Who handed in
 * nbufs that it had not read, or counted its head back, has left entries there
 * whose nbufs have come in another packet since.
 */
static bool netio_inq_sound(struct netio_lane *lane, u32 pos, u32 tail)
{
	struct netio_instance *inst = lane->inst;
	u32 i;

	for (i = 0; pos != tail; pos++, i++) {
		u32 e = READ_ONCE(lane->inq[pos & ((1U << inst->order) - 1)]);
		u32 action = e >> NETIO_ENT_ACTION_SHIFT & NETIO_ENT_ACTION_MASK;
		const struct netio_nb *nb = &inst->nb[e & NETIO_ENT_PARAM_MASK];

		netio_walk_pause(inst, i);
		/* Somebody is about to write it. */
		if ((e & NETIO_ENT_TOGGLE) != NETIO_TOGGLE(pos, inst->order))
			continue;
		if (action != NETIO_IN_RX && action != NETIO_IN_GRANT &&
		    action != NETIO_IN_FETCHED)
			continue;
		if (READ_ONCE(nb->owner) != NETIO_NB_PROCESS ||
		    nb->lane != lane->number || nb->pos != pos)
			return false;
	}
	return true;
}

/* Where the next owner of a lane begins: behind what the last one has read. */
static void netio_inq_hand_over(struct netio_lane *lane)
{
	u32 size = 1U << lane->inst->order, tail = READ_ONCE(lane->d->inq_tail);
	u32 pos = READ_ONCE(lane->p->inq_head);

	if (tail - pos > size)
		pos = tail;
	/* It may have read the beginning of a chain: nobody can use its rest. */
	if (tail - pos < size)
		while (pos != tail &&
		       READ_ONCE(lane->inq[(pos - 1) & (size - 1)]) & NETIO_ENT_MORE)
			pos++;
	if (!netio_inq_sound(lane, pos, tail))
		pos = tail;
	lane->d->inq_start = pos;
	WRITE_ONCE(lane->p->inq_head, pos);
	WRITE_ONCE(lane->woken, READ_ONCE(lane->p->sleep_seq));
	WRITE_ONCE(lane->heartbeat_at, jiffies);
}

/* Whether an nbuf is on an InQ still. More may come at any time. */
static bool netio_nb_unread(struct netio_instance *inst, struct netio_nb *nb)
{
	struct netio_lane *lane = &inst->lanes[nb->lane];
	u32 start = lane->d->inq_start;

	return nb->pos - start < READ_ONCE(lane->d->inq_tail) - start;
}

void netio_instance_hand_over(struct netio_instance *inst)
{
	struct sk_buff_head drop;
	u32 i;

	lockdep_assert_held(&inst->lock);
	/* After this nobody works on the OutQs. */
	for (i = 0; i < inst->lane_count; i++)
		netio_outq_drain(&inst->lanes[i]);

	__skb_queue_head_init(&drop);
	netio_walk_begin(inst);
	for (i = 0; i < inst->lane_count; i++)
		netio_inq_hand_over(&inst->lanes[i]);
	for (i = 0; i < inst->nbuf_count; i++) {
		struct netio_nb *nb = &inst->nb[i];
		struct netio_lane *lane;
		struct sk_buff *skb;

		netio_walk_pause(inst, i);
		if (!netio_nb_take(nb))
			continue;
		/* Where it was given is known only now that it is ours. */
		if (netio_nb_unread(inst, nb)) {
			netio_nb_give(nb);
			continue;
		}
		lane = &inst->lanes[nb->lane];
		skb = netio_nb_detach(inst, nb);
		if (skb)
			__skb_queue_tail(&drop, skb);
		netio_nb_free(inst, &i, 1);
		WRITE_ONCE(lane->d->reclaimed, lane->d->reclaimed + 1);
	}
	netio_walk_end(inst);
	__skb_queue_purge(&drop);
	local_bh_disable();
	netio_backlogs(inst);
	local_bh_enable();
}

/* --- network namespaces -------------------------------------------------- */

static int __net_init netio_net_init(struct net *net)
{
	struct netio_net *nn = netio_net(net);

	mutex_init(&nn->lock);
	INIT_LIST_HEAD(&nn->instances);
	return netio_show_init(net);
}

/* Nobody owns what is left: an owner would hold the namespace. */
static void __net_exit netio_net_exit(struct net *net)
{
	struct netio_net *nn = netio_net(net);
	struct netio_instance *inst;

	netio_show_exit(net);
	while (!list_empty(&nn->instances)) {
		LIST_HEAD(knets);
		u32 port;

		inst = list_first_entry(&nn->instances, struct netio_instance, node);
		rtnl_lock();
		WRITE_ONCE(inst->dead, true);
		for (port = 1; inst->port_count && port < inst->port_max; port++) {
			struct netio_iface *iface = rtnl_dereference(inst->ifaces[port]);

			if (iface && iface->ops)
				iface->ops->remove(iface);
			else if (iface)
				netio_knet_delete(iface, &knets);
		}
		unregister_netdevice_many(&knets);
		rtnl_unlock();
		mutex_lock(&nn->lock);
		netio_instance_unlist(inst);
		mutex_unlock(&nn->lock);
	}
}

static struct pernet_operations netio_net_ops = {
	.init = netio_net_init,
	.exit = netio_net_exit,
	.id = &netio_net_id,
	.size = sizeof(struct netio_net),
};

int netio_instances_init(void)
{
	int err;

	netio_releases = alloc_workqueue("netio", WQ_UNBOUND, 0);
	if (!netio_releases)
		return -ENOMEM;
	err = register_pernet_device(&netio_net_ops);
	if (err)
		destroy_workqueue(netio_releases);
	return err;
}

void netio_instances_exit(void)
{
	unregister_pernet_device(&netio_net_ops);
	destroy_workqueue(netio_releases);
}
