// SPDX-License-Identifier: GPL-2.0
#include <linux/etherdevice.h>
#include <linux/if_arp.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/jhash.h>
#include <linux/module.h>
#include <net/dst.h>
#include <net/ip6_fib.h>
#include <net/ip6_route.h>
#include <net/neighbour.h>
#include <net/route.h>

#include "compat.h"
#include "nic.h"
#include "packet.h"
#include "queue.h"
#include "trace.h"

/* Destinations whose next hop a processor remembers. */
#define NETIO_HOPS	64

static LIST_HEAD(netio_nics);	/* under rtnl */

/* --- the next hop ---------------------------------------------------------- */

struct netio_hop {
	struct dst_entry *dst;
	struct neighbour *neigh;
	u32 cookie;
	bool v6;
	u8 addr[16];
};

static void netio_hop_drop(struct netio_hop *hop)
{
	if (hop->neigh)
		neigh_release(hop->neigh);
	dst_release(hop->dst);
	memset(hop, 0, sizeof(*hop));
}

static struct dst_entry *netio_route(struct netio_nic *nic, const u8 *addr, bool v6)
{
	struct net *net = dev_net(nic->dev);

	if (!v6) {
		struct flowi4 fl = { .flowi4_oif = nic->dev->ifindex };
		struct rtable *rt;

		memcpy(&fl.daddr, addr, 4);
		rt = ip_route_output_key(net, &fl);
		return IS_ERR(rt) ? NULL : &rt->dst;
	}
#if IS_ENABLED(CONFIG_IPV6)
	{
		struct flowi6 fl = { .flowi6_oif = nic->dev->ifindex };
		struct dst_entry *dst;

		memcpy(&fl.daddr, addr, 16);
		dst = ip6_route_output(net, NULL, &fl);
		if (!dst->error)
			return dst;
		dst_release(dst);
	}
#endif
	return NULL;
}

static u32 netio_route_cookie(const struct dst_entry *dst, bool v6)
{
#if IS_ENABLED(CONFIG_IPV6)
	if (v6)
		return rt6_get_cookie(container_of(dst, struct rt6_info, dst));
#endif
	return 0;
}

/* By this processor's memory or by the host's routes, or NULL. */
static struct netio_hop *netio_hop_get(struct netio_nic *nic, const u8 *l3, u32 len)
{
	struct netio_hop *hop;
	u8 addr[16] = {};
	bool v6;

	if (len >= sizeof(struct iphdr) && l3[0] >> 4 == 4) {
		v6 = false;
		memcpy(addr, l3 + offsetof(struct iphdr, daddr), 4);
	} else if (len >= sizeof(struct ipv6hdr) && l3[0] >> 4 == 6) {
		v6 = true;
		memcpy(addr, l3 + offsetof(struct ipv6hdr, daddr), 16);
	} else {
		return NULL;
	}
	hop = this_cpu_ptr(nic->hops) +
	      (jhash2((u32 *)addr, v6 ? 4 : 1, 0) & (NETIO_HOPS - 1));
	if (likely(hop->dst && hop->v6 == v6 && !memcmp(hop->addr, addr, 16) &&
		   dst_check(hop->dst, hop->cookie) && !READ_ONCE(hop->neigh->dead)))
		return hop;
	netio_hop_drop(hop);
	hop->dst = netio_route(nic, addr, v6);
	/* Another interface: an address of this host, for one. */
	if (!hop->dst || hop->dst->dev != nic->dev)
		goto fail;
	hop->neigh = dst_neigh_lookup(hop->dst, addr);
	if (IS_ERR_OR_NULL(hop->neigh)) {
		hop->neigh = NULL;
		goto fail;
	}
	hop->cookie = netio_route_cookie(hop->dst, v6);
	hop->v6 = v6;
	memcpy(hop->addr, addr, 16);
	return hop;
fail:
	netio_hop_drop(hop);
	return NULL;
}

static void netio_hops_free(struct netio_nic *nic)
{
	int cpu, i;

	for_each_possible_cpu(cpu)
		for (i = 0; nic->hops && i < NETIO_HOPS; i++)
			netio_hop_drop(per_cpu_ptr(nic->hops, cpu) + i);
	free_percpu(nic->hops);
}

bool netio_nic_header(struct netio_nic *nic, const u8 *l3, u32 len,
		      struct ethhdr *l2)
{
	struct netio_hop *hop = netio_hop_get(nic, l3, len);

	if (!hop || neigh_event_send(hop->neigh, NULL))
		return false;
	neigh_ha_snapshot(l2->h_dest, hop->neigh, nic->dev);
	ether_addr_copy(l2->h_source, nic->dev->dev_addr);
	l2->h_proto = hop->v6 ? htons(ETH_P_IPV6) : htons(ETH_P_IP);
	return true;
}

/* --- sending skbs ---------------------------------------------------------- */

/* The interface is done with a packet. */
static void netio_nic_freed(struct sk_buff *skb)
{
	struct netio_nic *nic;

	rcu_read_lock();
	nic = rcu_dereference_sk_user_data(skb->sk);
	if (nic)
		netio_queued(&nic->iface, -1, -(int)skb->truesize);
	rcu_read_unlock();
	sock_wfree(skb);
}

static void netio_nic_charge(struct netio_nic *nic, struct sk_buff *skb)
{
	skb_set_owner_w(skb, nic->sk);
	skb->destructor = netio_nic_freed;
	netio_queued(&nic->iface, 1, skb->truesize);
}

static void netio_nic_drop(struct netio_nic *nic, struct sk_buff *skb,
			   enum netio_drop_reason reason)
{
	netio_iface_tx_drop(&nic->iface, skb->len, reason);
	kfree_skb(skb);
}

static bool netio_nic_fits(const struct netio_nic *nic, const struct sk_buff *skb)
{
	u32 mtu = READ_ONCE(nic->dev->mtu);

	return skb->len <= mtu ||
	       (skb_is_gso(skb) && skb_gso_validate_network_len(skb, mtu));
}

static void netio_nic_driver_xmit(struct netio_nic *nic, struct sk_buff *skb)
{
	bool again = false;

	/* Segments it, or completes its checksum, if the NIC does not. */
	skb = validate_xmit_skb_list(skb, nic->dev, &again);
	while (skb) {
		struct sk_buff *next = skb->next;

		skb_mark_not_on_list(skb);
		if (nic->driver->send_skb(nic->dev, skb))
			netio_nic_drop(nic, skb, NETIO_DROP_TX_REFUSED);
		skb = next;
	}
}

/* Of a run of the OutQ's service: under RCU, softirqs off, no locks. */
static void netio_nic_transmit(struct netio_iface *iface, struct sk_buff *skb)
{
	struct netio_nic *nic = netio_nic_of(iface);
	struct net_device *dev = nic->dev;
	enum netio_drop_reason reason = NETIO_DROP_TX_NO_MEMORY;
	u32 len = skb->len;
	u8 ha[MAX_ADDR_LEN];
	struct netio_hop *hop;

	skb_orphan(skb);
	skb_scrub_packet(skb, true);
	skb_set_queue_mapping(skb, 0);
	skb_reset_redirect(skb);
	skb->priority = 0;
	skb->pkt_type = PACKET_OUTGOING;
	skb->dev = dev;
	skb_reset_network_header(skb);
	skb_reset_mac_header(skb);
	skb_forward_csum(skb);
	if (unlikely(!pskb_may_pull(skb, min_t(u32, len, sizeof(struct ipv6hdr)))))
		goto drop;
	if (unlikely(!READ_ONCE(nic->live))) {
		reason = NETIO_DROP_TX_DOWN;
		goto drop;
	}
	if (unlikely(!netio_nic_fits(nic, skb))) {
		reason = NETIO_DROP_TX_TOO_LONG;
		goto drop;
	}
	hop = netio_hop_get(nic, skb->data, skb_headlen(skb));
	if (unlikely(!hop)) {
		reason = NETIO_DROP_TX_NO_NEIGHBOUR;
		goto drop;
	}
	skb->protocol = hop->v6 ? htons(ETH_P_IPV6) : htons(ETH_P_IP);
	if (unlikely(skb_cow_head(skb, LL_RESERVED_SPACE(dev))))
		goto drop;
	netio_nic_charge(nic, skb);
	/* It waits there for the neighbour's address, and is sent by the host then. */
	if (unlikely(neigh_event_send(hop->neigh, skb)))
		return;
	neigh_ha_snapshot(ha, hop->neigh, dev);
	if (dev_hard_header(skb, dev, ntohs(skb->protocol), ha, NULL, skb->len) < 0)
		goto drop;
	if (nic->driver)
		netio_nic_driver_xmit(nic, skb);
	else if (dev_queue_xmit(skb) == NET_XMIT_DROP)
		netio_iface_tx_drop(iface, len, NETIO_DROP_TX_REFUSED);
	return;
drop:
	netio_nic_drop(nic, skb, reason);
}

static void netio_nic_flush(struct netio_iface *iface)
{
	struct netio_nic *nic = netio_nic_of(iface);

	if (nic->driver)
		nic->driver->flush(nic->dev);
}

/* --- sending nbufs --------------------------------------------------------- */

int netio_nic_send(struct netio_lane *lane, const u32 *idx, u32 n,
		   struct netio_iface **iface)
{
	struct netio_instance *inst = lane->inst;
	struct netio_piece pieces[NETIO_CHAIN_MAX];
	struct netio_frame f = { .pieces = pieces };
	struct netio_nic *nic;
	u32 eport, i;
	const u8 *l3;

	if (!netio_packet_frame(lane, idx, n, &eport, &f))
		return 0;
	*iface = netio_iface_get(inst, eport);
	if (!*iface || !(*iface)->ops)
		return 0;
	nic = netio_nic_of(*iface);
	if (!nic->driver || !READ_ONCE(nic->live) || !netif_running(nic->dev) ||
	    f.gso_type || f.len > READ_ONCE(nic->dev->mtu) ||
	    (f.flags & NETIO_NB_CSUM_PARTIAL && !(nic->dev->features & NETIF_F_HW_CSUM)))
		return 0;
	l3 = (const u8 *)inst->nb[idx[0]].buf + pieces[0].off;
	if (!netio_nic_header(nic, l3, pieces[0].len, &f.l2))
		return 0;
	for (i = 0; i < n; i++) {
		/* Charged to whom it came from no longer: it is in a queue. */
		netio_nb_detach(inst, &inst->nb[idx[i]]);
		nic->links[idx[i]].next = i + 1 < n ? idx[i + 1] : NETIO_NIC_LAST;
	}
	nic->links[idx[0]].bytes = f.len;
	netio_queued(*iface, 1, f.len);
	if (likely(!nic->driver->send(nic->dev, &f))) {
		trace_netio_send(lane, eport, f.len);
		return 1;
	}
	netio_queued(*iface, -1, -(int)f.len);
	return -ENOBUFS;
}

/* --- making and removing ------------------------------------------------- */

static struct proto netio_proto = {
	.name = "netio",
	.owner = THIS_MODULE,
	.obj_size = sizeof(struct sock),
};

static void netio_nic_free(struct netio_nic *nic)
{
	netio_hops_free(nic);
	netio_steer_free(rcu_dereference_protected(nic->steer, 1));
	if (nic->sk)
		sock_put(nic->sk);
	kvfree(nic->links);
	if (nic->inst)
		netio_instance_put(nic->inst);
	kfree(nic);
}

static struct netio_nic *netio_nic_new(struct netio_instance *inst,
				       struct net_device *dev)
{
	struct netio_nic *nic = kzalloc(sizeof(*nic), GFP_KERNEL_ACCOUNT);

	if (!nic)
		return NULL;
	netio_instance_hold(inst);
	nic->inst = inst;
	nic->dev = dev;
	nic->driver = netio_driver_of(dev);
	nic->hops = __alloc_percpu(NETIO_HOPS * sizeof(struct netio_hop),
				   __alignof__(struct netio_hop));
	/* It does not hold the network namespace, as the instance does not. */
	nic->sk = sk_alloc(inst->net, AF_UNSPEC, GFP_KERNEL, &netio_proto, 1);
	if (nic->sk)
		sock_init_data(NULL, nic->sk);
	if (nic->driver)
		nic->links = kvcalloc(inst->nbuf_count, sizeof(*nic->links),
				      GFP_KERNEL_ACCOUNT);
	if (!nic->hops || !nic->sk || (nic->driver && !nic->links)) {
		netio_nic_free(nic);
		return NULL;
	}
	rcu_assign_sk_user_data(nic->sk, nic);
	return nic;
}

static void netio_nic_remove(struct netio_iface *iface)
{
	struct netio_nic *nic = netio_nic_of(iface);

	list_del(&nic->node);
	WRITE_ONCE(nic->live, false);
	synchronize_net();	/* nobody sends by it any more */
	if (nic->driver)
		nic->driver->stop(nic->dev);
	else
		netio_adapter_stop(nic);
	if (nic->driver)
		WRITE_ONCE(nic->inst->drivers, nic->inst->drivers - 1);
	rcu_assign_sk_user_data(nic->sk, NULL);
	netio_iface_remove(iface);
	dev_put(nic->dev);
	netio_nic_free(nic);
}

static const struct netio_iface_ops netio_nic_iface_ops = {
	.transmit = netio_nic_transmit,
	.flush = netio_nic_flush,
	.remove = netio_nic_remove,
};

static void netio_nic_state(struct netio_nic *nic)
{
	bool up = netif_running(nic->dev) && netif_carrier_ok(nic->dev);

	netio_iface_state(&nic->iface, up);
}

int netio_nic_add(struct netio_instance *inst, int ifindex,
		  const struct netio_iface_choice *c, u32 *port)
{
	struct net_device *dev;
	struct netio_nic *nic;
	int err;

	ASSERT_RTNL();
	dev = __dev_get_by_index(inst->net, ifindex);
	if (!dev)
		return -ENODEV;
	if (dev->type != ARPHRD_ETHER || dev->flags & IFF_LOOPBACK)
		return -EINVAL;
	if (netdev_is_rx_handler_busy(dev))
		return -EBUSY;
	list_for_each_entry(nic, &netio_nics, node)
		if (nic->dev == dev)
			return -EBUSY;
	nic = netio_nic_new(inst, dev);
	if (!nic)
		return -ENOMEM;
	nic->iface.ops = &netio_nic_iface_ops;
	err = netio_iface_add(&nic->iface, inst, dev, c, NULL);
	if (err)
		goto free;
	dev_hold(dev);
	if (nic->driver)
		err = nic->driver->start(dev, nic);
	else
		err = netio_adapter_start(nic);
	if (err)
		goto remove;
	if (nic->driver)
		WRITE_ONCE(inst->drivers, inst->drivers + 1);
	list_add(&nic->node, &netio_nics);
	WRITE_ONCE(nic->live, true);
	netio_nic_state(nic);
	*port = nic->iface.port;
	return 0;
remove:
	rcu_assign_sk_user_data(nic->sk, NULL);
	netio_iface_remove(&nic->iface);
	dev_put(dev);
free:
	netio_nic_free(nic);
	return err;
}

int netio_nic_steer(struct netio_iface *iface, u32 op,
		    const struct netio_prefix *p, u32 count)
{
	struct netio_steer *old, *new;
	struct netio_nic *nic;

	ASSERT_RTNL();
	if (!iface->ops)
		return -EINVAL;
	nic = netio_nic_of(iface);
	old = rtnl_dereference(nic->steer);
	new = netio_steer_change(old, op, p, count);
	if (IS_ERR(new))
		return PTR_ERR(new);
	rcu_assign_pointer(nic->steer, new);
	netio_steer_free(old);
	return 0;
}

/* --- what happens to interfaces ------------------------------------------ */

void netio_nic_forget(struct net_device *dev)
{
	struct netio_nic *nic;

	ASSERT_RTNL();
	list_for_each_entry(nic, &netio_nics, node)
		if (nic->dev == dev) {
			netio_nic_remove(&nic->iface);
			break;
		}
}

static int netio_nic_event(struct notifier_block *nb, unsigned long event, void *ptr)
{
	struct net_device *dev = netdev_notifier_info_to_dev(ptr);
	struct netio_nic *nic;

	list_for_each_entry(nic, &netio_nics, node) {
		if (nic->dev != dev)
			continue;
		switch (event) {
		case NETDEV_UP:
		case NETDEV_DOWN:
		case NETDEV_CHANGE:
			netio_nic_state(nic);
			break;
		case NETDEV_CHANGEMTU:
			netio_iface_mtu(&nic->iface, dev->mtu);
			break;
		case NETDEV_UNREGISTER: /* or it moves to another namespace */
			netio_nic_remove(&nic->iface);
			break;
		}
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block netio_nic_notifier = {
	.notifier_call = netio_nic_event,
};

int netio_nics_init(void)
{
	int err = proto_register(&netio_proto, 0);

	if (err)
		return err;
	err = register_netdevice_notifier(&netio_nic_notifier);
	if (err)
		proto_unregister(&netio_proto);
	return err;
}

void netio_nics_exit(void)
{
	unregister_netdevice_notifier(&netio_nic_notifier);
	proto_unregister(&netio_proto);
	rcu_barrier(); /* netio_steer_free() */
}
