// SPDX-License-Identifier: GPL-2.0
#include <linux/ethtool.h>
#include <linux/if_arp.h>
#include <linux/netdevice.h>
#include <net/ip.h>
#include <net/ip_tunnels.h>
#include <net/rtnetlink.h>

#include "compat.h"
#include "iface.h"
#include "knet.h"
#include "packet.h"

#define NETIO_KNET_MTU_MIN	68	/* RFC 791 */
#define NETIO_KNET_MTU_MAX	65535
/* Packets that wait for nbufs before more are dropped; `ip link set txqueuelen`. */
#define NETIO_KNET_BACKLOG	1000

/* A packet with the longest headers of a tunnel in front must have a length still. */
#define NETIO_KNET_GSO_MAX	(65536 - 128)
static_assert(NETIO_KNET_GSO_MAX + NETIO_ENCAP_MAX <= IP_MAX_MTU);

#define NETIO_KNET_FEATURES						\
	(NETIF_F_SG | NETIF_F_FRAGLIST | NETIF_F_HIGHDMA | NETIF_F_HW_CSUM | \
	 NETIF_F_RXCSUM | NETIF_F_TSO | NETIF_F_TSO_ECN | NETIF_F_TSO6 |	\
	 NETIF_F_GSO_UDP_L4)

static netdev_tx_t netio_knet_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct netio_iface *iface = netdev_priv(dev);

	/* Who bypasses queueing disciplines may come late. */
	if (unlikely(!netif_running(dev))) {
		netio_iface_rx_drop(iface, skb->len, NETIO_DROP_RX_DOWN);
		goto drop;
	}
	/* Pages that a sender lent (MSG_ZEROCOPY) must not wait for a process. */
	if (unlikely(skb_orphan_frags_rx(skb, GFP_ATOMIC))) {
		netio_iface_rx_drop(iface, skb->len, NETIO_DROP_RX_NO_MEMORY);
		goto drop;
	}
	dev_sw_netstats_tx_add(dev, 1, skb->len);
	netio_iface_receive(iface, skb);
	return NETDEV_TX_OK;
drop:
	kfree_skb(skb);
	return NETDEV_TX_OK;
}

static int netio_knet_init_dev(struct net_device *dev)
{
	dev->tstats = netdev_alloc_pcpu_stats(struct pcpu_sw_netstats);
	return dev->tstats ? 0 : -ENOMEM;
}

/* The last call, after a grace period since the interface went down. */
static void netio_knet_uninit_dev(struct net_device *dev)
{
	struct netio_iface *iface = netdev_priv(dev);

	if (iface->inst)
		netio_iface_remove(iface);
	free_percpu(dev->tstats);
	dev->tstats = NULL;
}

static int netio_knet_open(struct net_device *dev)
{
	netio_iface_state(netdev_priv(dev), true);
	return 0;
}

static int netio_knet_stop(struct net_device *dev)
{
	struct netio_iface *iface = netdev_priv(dev);

	netio_iface_state(iface, false);
	/*
	 * Nobody sends any more: the caller has had a grace period, for all that are
	 * closed at once. What came later would be purged at the end.
	 */
	netio_backlog_purge(iface);
	return 0;
}

static int netio_knet_change_mtu(struct net_device *dev, int mtu)
{
	WRITE_ONCE(dev->mtu, mtu);
	netio_iface_mtu(netdev_priv(dev), mtu);
	return 0;
}

static const struct net_device_ops netio_knet_netdev_ops = {
	.ndo_init = netio_knet_init_dev,
	.ndo_uninit = netio_knet_uninit_dev,
	.ndo_open = netio_knet_open,
	.ndo_stop = netio_knet_stop,
	.ndo_start_xmit = netio_knet_xmit,
	.ndo_change_mtu = netio_knet_change_mtu,
	.ndo_get_stats64 = dev_get_tstats64,
};

/* --- ethtool ------------------------------------------------------------- */

static const char netio_knet_strings[][ETH_GSTRING_LEN] = {
	"nbufs", "nbuf_quota", "parked_bytes", "q_packets", "q_bytes",
	"rx_no_nbuf_drop", "tx_drop", "backlog",
};

static int netio_knet_sset_count(struct net_device *dev, int set)
{
	return set == ETH_SS_STATS ? ARRAY_SIZE(netio_knet_strings) : -EOPNOTSUPP;
}

static void netio_knet_get_strings(struct net_device *dev, u32 set, u8 *data)
{
	if (set == ETH_SS_STATS)
		memcpy(data, netio_knet_strings, sizeof(netio_knet_strings));
}

static void netio_knet_get_stats(struct net_device *dev,
				 struct ethtool_stats *stats, u64 *data)
{
	struct netio_iface *iface = netdev_priv(dev);
	const struct netio_port *sh = iface->sh;

	data[0] = READ_ONCE(sh->nbufs);
	data[1] = READ_ONCE(sh->nbuf_quota);
	data[2] = READ_ONCE(sh->parked_bytes);
	data[3] = READ_ONCE(sh->q_packets);
	data[4] = READ_ONCE(sh->q_bytes);
	data[5] = READ_ONCE(sh->rx_drop);
	data[6] = READ_ONCE(sh->tx_drop);
	data[7] = skb_queue_len_lockless(&iface->backlog);
}

static void netio_knet_drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	const struct netio_iface *iface = netdev_priv(dev);

	strscpy(info->driver, NETIO_KNET_KIND, sizeof(info->driver));
	snprintf(info->bus_info, sizeof(info->bus_info), "port %u", iface->port);
}

static const struct ethtool_ops netio_knet_ethtool_ops = {
	.get_drvinfo = netio_knet_drvinfo,
	.get_link = ethtool_op_get_link,
	.get_sset_count = netio_knet_sset_count,
	.get_strings = netio_knet_get_strings,
	.get_ethtool_stats = netio_knet_get_stats,
};

/* --- rtnetlink ------------------------------------------------------------- */

static void netio_knet_setup(struct net_device *dev)
{
	dev->netdev_ops = &netio_knet_netdev_ops;
	dev->ethtool_ops = &netio_knet_ethtool_ops;
	dev->header_ops = &ip_tunnel_header_ops;
	dev->needs_free_netdev = true;
	dev->type = ARPHRD_NONE;
	dev->flags = IFF_POINTOPOINT | IFF_NOARP;
	dev->mtu = ETH_DATA_LEN;
	dev->min_mtu = NETIO_KNET_MTU_MIN;
	dev->max_mtu = NETIO_KNET_MTU_MAX;
	/* Netpoll sends with interrupts off, and here locks turn softirqs off only. */
	dev->priv_flags |= IFF_NO_QUEUE | IFF_DISABLE_NETPOLL;
	dev->needed_headroom = NETIO_HEADROOM;
	dev->tx_queue_len = NETIO_KNET_BACKLOG;
	dev->features = NETIO_KNET_FEATURES;
	dev->hw_features = NETIO_KNET_FEATURES;
	dev->hw_enc_features = NETIO_KNET_FEATURES;
	netif_set_tso_max_size(dev, NETIO_KNET_GSO_MAX);
	netio_set_lltx(dev);
}

static const struct nla_policy netio_knet_policy[IFLA_KNET_MAX + 1] = {
	[IFLA_KNET_INSTANCE]	= { .type = NLA_NUL_STRING, .len = NETIO_NAME_MAX - 1 },
	[IFLA_KNET_PORT]	= { .type = NLA_U32 },
	[IFLA_KNET_QUOTA]	= { .type = NLA_U32 },
	[IFLA_KNET_FLAGS]	= { .type = NLA_U32 },
	[IFLA_KNET_LABEL]	= { .type = NLA_NUL_STRING, .len = NETIO_LABEL_MAX - 1 },
};

static int netio_knet_validate(struct nlattr *tb[], struct nlattr *data[],
			       struct netlink_ext_ack *extack)
{
	if (!data || !data[IFLA_KNET_INSTANCE]) {
		NL_SET_ERR_MSG(extack, "a knet needs the name of its instance");
		return -EINVAL;
	}
	if (tb[IFLA_ADDRESS]) {
		NL_SET_ERR_MSG(extack, "a knet has no link-layer address");
		return -EINVAL;
	}
	return 0;
}

NETIO_NEWLINK(netio_knet_newlink)
{
	struct nlattr **d = NETIO_NEWLINK_DATA;
	struct netio_iface *iface = netdev_priv(dev);
	struct netio_iface_choice choice = {};
	struct netio_instance *inst;
	int err;

	inst = netio_instance_find(NETIO_NEWLINK_NET, nla_data(d[IFLA_KNET_INSTANCE]));
	if (IS_ERR(inst)) {
		NL_SET_ERR_MSG_ATTR(extack, d[IFLA_KNET_INSTANCE],
				    "no such instance in this network namespace");
		return PTR_ERR(inst);
	}
	if (d[IFLA_KNET_PORT])
		choice.port = nla_get_u32(d[IFLA_KNET_PORT]);
	if (d[IFLA_KNET_QUOTA])
		choice.quota = nla_get_u32(d[IFLA_KNET_QUOTA]);
	if (d[IFLA_KNET_FLAGS])
		choice.flags = nla_get_u32(d[IFLA_KNET_FLAGS]);
	if (d[IFLA_KNET_LABEL])
		choice.label = nla_data(d[IFLA_KNET_LABEL]);
	err = netio_iface_add(iface, inst, dev, &choice, extack);
	if (!err) {
		err = register_netdevice(dev);
		if (err && iface->inst) /* else ndo_uninit has done it */
			netio_iface_remove(iface);
	}
	netio_instance_put(inst);
	return err;
}

static void netio_knet_dellink(struct net_device *dev, struct list_head *head)
{
	netio_iface_hide(netdev_priv(dev));
	unregister_netdevice_queue(dev, head);
}

void netio_knet_delete(struct netio_iface *iface, struct list_head *list)
{
	netio_knet_dellink(iface->dev, list);
}

static size_t netio_knet_size(const struct net_device *dev)
{
	return nla_total_size(NETIO_NAME_MAX) + 3 * nla_total_size(sizeof(u32)) +
	       nla_total_size(NETIO_LABEL_MAX);
}

static int netio_knet_fill(struct sk_buff *skb, const struct net_device *dev)
{
	const struct netio_iface *iface = netdev_priv(dev);

	if (!iface->inst) /* on its way out */
		return 0;
	if (nla_put_string(skb, IFLA_KNET_INSTANCE, iface->inst->name) ||
	    nla_put_u32(skb, IFLA_KNET_PORT, iface->port) ||
	    nla_put_u32(skb, IFLA_KNET_QUOTA, iface->sh->nbuf_quota) ||
	    nla_put_u32(skb, IFLA_KNET_FLAGS, iface->sh->flags))
		return -EMSGSIZE;
	/* What the owner keeps with it is no business of a pod's. */
	if (net_eq(dev_net(dev), iface->inst->net) &&
	    nla_put_string(skb, IFLA_KNET_LABEL, iface->label))
		return -EMSGSIZE;
	return 0;
}

static struct rtnl_link_ops netio_knet_ops __read_mostly = {
	.kind = NETIO_KNET_KIND,
	.priv_size = sizeof(struct netio_iface),
	.setup = netio_knet_setup,
	.maxtype = IFLA_KNET_MAX,
	.policy = netio_knet_policy,
	.validate = netio_knet_validate,
	.newlink = netio_knet_newlink,
	.dellink = netio_knet_dellink,
	.get_size = netio_knet_size,
	.fill_info = netio_knet_fill,
};

int netio_knet_init(void)
{
	return rtnl_link_register(&netio_knet_ops);
}

void netio_knet_exit(void)
{
	rtnl_link_unregister(&netio_knet_ops);
}

MODULE_ALIAS_RTNL_LINK(NETIO_KNET_KIND);
