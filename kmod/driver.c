// SPDX-License-Identifier: GPL-2.0
/* What drivers of NICs use of NetIO: see net/netio.h. */
#include <linux/etherdevice.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "compat.h"
#include "inq.h"
#include "nic.h"
#include "outq.h"
#include "packet.h"
#include "queue.h"

/* An interface whose driver is NetIO's. */
struct netio_driver {
	struct list_head node;
	struct net_device *dev;
	const struct netio_nic_ops *ops;
};

static LIST_HEAD(netio_drivers);	/* under rtnl */

static struct netio_driver *netio_driver_find(struct net_device *dev)
{
	struct netio_driver *d;

	ASSERT_RTNL();
	list_for_each_entry(d, &netio_drivers, node)
		if (d->dev == dev)
			return d;
	return NULL;
}

const struct netio_nic_ops *netio_driver_of(struct net_device *dev)
{
	struct netio_driver *d = netio_driver_find(dev);

	return d ? d->ops : NULL;
}

/**
 * netio_nic_register() - let an interface be a port that has its packets in nbufs
 * @dev: of type ARPHRD_ETHER, before or after register_netdev()
 * @ops: stay until netio_nic_unregister()
 *
 * Context: process context, without rtnl.
 * Return: 0, or -ENOMEM.
 */
int netio_nic_register(struct net_device *dev, const struct netio_nic_ops *ops)
{
	struct netio_driver *d = kzalloc(sizeof(*d), GFP_KERNEL);

	if (!d)
		return -ENOMEM;
	d->dev = dev;
	d->ops = ops;
	rtnl_lock();
	list_add(&d->node, &netio_drivers);
	rtnl_unlock();
	return 0;
}
EXPORT_SYMBOL_GPL(netio_nic_register);

/**
 * netio_nic_unregister() - undo netio_nic_register()
 * @dev: before its unregister_netdev()
 *
 * A port that it is ends. Afterwards no function of the driver's is called.
 *
 * Context: process context, without rtnl.
 */
void netio_nic_unregister(struct net_device *dev)
{
	struct netio_driver *d;

	rtnl_lock();
	netio_nic_forget(dev);
	d = netio_driver_find(dev);
	if (d)
		list_del(&d->node);
	rtnl_unlock();
	kfree(d);
}
EXPORT_SYMBOL_GPL(netio_nic_unregister);

/**
 * netio_nic_take() - empty nbufs to receive into
 * @nic: port
 * @index: gets their numbers
 * @count: how many are wanted
 *
 * A packet should begin at NETIO_NBUF_DATA less the length of its Ethernet header,
 * so that its L3 header is at the place that processes know.
 *
 * Context: softirqs are off.
 * Return: how many there were.
 */
u32 netio_nic_take(struct netio_nic *nic, u32 *index, u32 count)
{
	return netio_nb_alloc_many(nic->inst, index, count);
}
EXPORT_SYMBOL_GPL(netio_nic_take);

/**
 * netio_nic_put() - give back nbufs that are not needed
 * @nic: port
 * @index: their numbers
 * @count: how many
 *
 * Context: softirqs are off.
 */
void netio_nic_put(struct netio_nic *nic, const u32 *index, u32 count)
{
	netio_nb_free(nic->inst, index, count);
}
EXPORT_SYMBOL_GPL(netio_nic_put);

/**
 * netio_nic_nbuf() - where an nbuf is
 * @nic: port
 * @index: of an nbuf that the driver has
 *
 * Return: NETIO_NBUF_SIZE bytes within one page of the kernel's direct map, of
 * which the first NETIO_NBUF_HDR are not the driver's.
 */
void *netio_nic_nbuf(struct netio_nic *nic, u32 index)
{
	return nic->inst->nb[index].buf;
}
EXPORT_SYMBOL_GPL(netio_nic_nbuf);

/**
 * netio_nic_nbufs() - how many nbufs the instance has
 * @nic: port
 *
 * Return: one more than the highest number.
 */
u32 netio_nic_nbufs(struct netio_nic *nic)
{
	return nic->inst->nbuf_count;
}
EXPORT_SYMBOL_GPL(netio_nic_nbufs);

/* The length of an IP packet by its header, or len. */
static u32 netio_nic_length(const u8 *l3, u32 len)
{
	u32 said;

	if (l3[0] >> 4 == 4)
		said = ntohs(READ_ONCE(((const struct iphdr *)l3)->tot_len));
	else
		said = sizeof(struct ipv6hdr) +
		       ntohs(READ_ONCE(((const struct ipv6hdr *)l3)->payload_len));
	return min(said, len);
}

/**
 * netio_nic_receive() - a packet has come in
 * @nic: port
 * @f: the packet, with its Ethernet header in the first nbuf, and behind it
 *	at least the L3 and L4 headers as far as the packet has them. Is changed.
 *
 * Context: softirqs are off, after it has been received by DMA.
 * Return: what has become of it, and whose the nbufs are.
 */
enum netio_nic_verdict netio_nic_receive(struct netio_nic *nic,
					 struct netio_frame *f)
{
	struct netio_piece *first = &f->pieces[0];
	const u8 *l2 = netio_nic_nbuf(nic, first->index) + first->off;
	enum netio_drop_reason reason = NETIO_DROP_RX_NO_PACKET;
	__be16 proto;
	u32 len;
	int err;

	if (unlikely(first->len < ETH_HLEN + sizeof(struct iphdr)))
		return NETIO_NIC_HOST;
	proto = READ_ONCE(((const struct ethhdr *)l2)->h_proto);
	if ((proto != htons(ETH_P_IP) && proto != htons(ETH_P_IPV6)) ||
	    !ether_addr_equal(l2, nic->dev->dev_addr))
		return NETIO_NIC_HOST;
	/* That softirqs are off is a reader's mark as well. */
	if (!netio_steer_ours(rcu_dereference_bh(nic->steer), l2 + ETH_HLEN,
			      first->len - ETH_HLEN))
		return NETIO_NIC_HOST;
	first->off += ETH_HLEN;
	first->len -= ETH_HLEN;
	f->len -= ETH_HLEN;
	if (f->flags & NETIO_NB_CSUM_PARTIAL) {
		if (unlikely(f->csum_start < ETH_HLEN))
			goto drop;
		f->csum_start -= ETH_HLEN;
	}
	if (f->count == 1) {
		/* Padding of short frames is no part of the packet. */
		len = netio_nic_length(l2 + ETH_HLEN, f->len);
		if (unlikely(len < sizeof(struct iphdr)))
			goto drop;
		first->len = len;
		f->len = len;
	}
	err = netio_packet_give(&nic->iface, f);
	if (likely(!err))
		return NETIO_NIC_TAKEN;
	if (err == -ENOBUFS)
		reason = NETIO_DROP_RX_NO_NBUF;
drop:
	netio_iface_rx_drop(&nic->iface, f->len, reason);
	return NETIO_NIC_DROPPED;
}
EXPORT_SYMBOL_GPL(netio_nic_receive);

/**
 * netio_nic_receive_end() - the last packet for now has come in
 * @nic: port
 *
 * Wakes processes and starts the service of their OutQs (paper, section 8).
 *
 * Context: softirqs are off.
 */
void netio_nic_receive_end(struct netio_nic *nic)
{
	struct netio_instance *inst = nic->inst;
	u32 i;

	if (unlikely(atomic_read(&inst->events)))
		netio_inq_events(&inst->lanes[0]);
	for (i = 0; i < inst->lane_count; i++) {
		netio_inq_wake(&inst->lanes[i]);
		netio_outq_hint(&inst->lanes[i]);
	}
}
EXPORT_SYMBOL_GPL(netio_nic_receive_end);

/**
 * netio_nic_sent() - packets of nbufs have been sent
 * @nic: port
 * @first: number of each packet's first nbuf
 * @count: of packets
 *
 * Context: softirqs are off, after the last DMA from them.
 */
void netio_nic_sent(struct netio_nic *nic, const u32 *first, u32 count)
{
	u32 idx[NETIO_CHAIN_MAX], n, i, packet;
	int bytes = 0;

	for (packet = 0; packet < count; packet++) {
		n = 0;
		for (i = first[packet]; i != NETIO_NIC_LAST && n < NETIO_CHAIN_MAX;
		     i = nic->links[i].next)
			idx[n++] = i;
		bytes += nic->links[first[packet]].bytes;
		netio_nb_free(nic->inst, idx, n);
	}
	if (!count)
		return;
	netio_queued(&nic->iface, -(int)count, -bytes);
	netio_backlogs(nic->inst);
}
EXPORT_SYMBOL_GPL(netio_nic_sent);
