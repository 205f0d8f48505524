// SPDX-License-Identifier: GPL-2.0
/*
 * netio_virtio: virtio network cards that receive into nbufs, and send from
 * them. It is a driver as virtio_net is, and takes only what it is told to take:
 *
 *	modprobe netio_virtio devices=virtio0
 *	echo virtio0 > /sys/bus/virtio/drivers/virtio_net/unbind
 *	echo virtio0 > /sys/bus/virtio/drivers/netio_virtio/bind
 *
 * Until its interface is a port it receives into pages of its own, and all is
 * the host's. Buffers of one kind do not outlive the change to the other: the
 * device is reset in between, as it is when the interface goes down.
 */
#include <linux/ethtool.h>
#include <linux/module.h>
#include <linux/rtnetlink.h>
#include <linux/string.h>

#include "virtio.h"

static char devices[256];
module_param_string(devices, devices, sizeof(devices), 0644);
MODULE_PARM_DESC(devices, "names of virtio devices that may be driven (virtio0,virtio1), or all; default none");

static int vnet_open(struct net_device *dev)
{
	return vnet_up(netdev_priv(dev));
}

static int vnet_stop(struct net_device *dev)
{
	vnet_down(netdev_priv(dev));
	return 0;
}

/* Begins anew with buffers of nic, or its own. */
static int vnet_change(struct vnet *vnet, struct netio_nic *nic)
{
	bool running = vnet->running;
	int err = 0;

	vnet_down(vnet);
	vnet->nic = nic;
	if (running)
		err = vnet_up(vnet);
	if (err)
		netdev_err(vnet->dev, "the device does not start again: %d\n", err);
	return err;
}

static int vnet_start(struct net_device *dev, struct netio_nic *nic)
{
	int err = vnet_change(netdev_priv(dev), nic);

	if (err)
		vnet_change(netdev_priv(dev), NULL);
	return err;
}

static void vnet_end(struct net_device *dev)
{
	vnet_change(netdev_priv(dev), NULL);
}

static const struct netio_nic_ops vnet_nic_ops = {
	.start = vnet_start,
	.stop = vnet_end,
	.send = vnet_send,
	.send_skb = vnet_send_skb,
	.flush = vnet_flush,
};

/* --- the interface -------------------------------------------------------- */

static int vnet_set_mac_address(struct net_device *dev, void *addr)
{
	struct vnet *vnet = netdev_priv(dev);
	int err = eth_prepare_mac_addr_change(dev, addr);

	if (!err && vnet->running)
		err = vnet_set_mac(vnet, ((struct sockaddr *)addr)->sa_data);
	if (!err)
		eth_commit_mac_addr_change(dev, addr);
	return err;
}

static void vnet_rx_mode(struct work_struct *work)
{
	struct vnet *vnet = container_of(work, struct vnet, rx_mode);

	rtnl_lock();
	if (vnet->running)
		vnet_set_rx_mode(vnet);
	rtnl_unlock();
}

/* The caller holds a spinlock, and the device takes its time. */
static void vnet_rx_mode_changed(struct net_device *dev)
{
	struct vnet *vnet = netdev_priv(dev);

	schedule_work(&vnet->rx_mode);
}

static const struct net_device_ops vnet_netdev_ops = {
	.ndo_open = vnet_open,
	.ndo_stop = vnet_stop,
	.ndo_start_xmit = vnet_start_xmit,
	.ndo_get_stats64 = dev_get_tstats64,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_set_mac_address = vnet_set_mac_address,
	.ndo_set_rx_mode = vnet_rx_mode_changed,
};

static void vnet_drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	const struct vnet *vnet = netdev_priv(dev);

	strscpy(info->driver, VNET_NAME, sizeof(info->driver));
	strscpy(info->bus_info, dev_name(&vnet->vdev->dev), sizeof(info->bus_info));
}

static void vnet_channels(struct net_device *dev, struct ethtool_channels *c)
{
	const struct vnet *vnet = netdev_priv(dev);

	c->max_combined = vnet->max_queues;
	c->combined_count = vnet->queues;
}

static const struct ethtool_ops vnet_ethtool_ops = {
	.get_drvinfo = vnet_drvinfo,
	.get_channels = vnet_channels,
	.get_link = ethtool_op_get_link,
};

static void vnet_config(struct work_struct *work)
{
	struct vnet *vnet = container_of(work, struct vnet, config);
	u16 status = VIRTIO_NET_S_LINK_UP;

	if (virtio_has_feature(vnet->vdev, VIRTIO_NET_F_STATUS))
		virtio_cread(vnet->vdev, struct virtio_net_config, status, &status);
	if (status & VIRTIO_NET_S_LINK_UP)
		netif_carrier_on(vnet->dev);
	else
		netif_carrier_off(vnet->dev);
	if (!(status & VIRTIO_NET_S_ANNOUNCE))
		return;
	/* The machine has been moved: the network is to learn where it is. */
	netdev_notify_peers(vnet->dev);
	rtnl_lock();
	if (vnet->running)
		vnet_announced(vnet);
	rtnl_unlock();
}

static void vnet_config_changed(struct virtio_device *vdev)
{
	struct vnet *vnet = vdev->priv;

	schedule_work(&vnet->config);
}

static void vnet_setup_dev(struct vnet *vnet)
{
	struct virtio_device *vdev = vnet->vdev;
	struct net_device *dev = vnet->dev;
	u8 addr[ETH_ALEN];
	u16 mtu;

	SET_NETDEV_DEV(dev, &vdev->dev);
	dev->netdev_ops = &vnet_netdev_ops;
	dev->ethtool_ops = &vnet_ethtool_ops;
	dev->needed_headroom = VNET_HDR;
	dev->min_mtu = ETH_MIN_MTU;
	dev->max_mtu = vnet->mergeable ? ETH_MAX_MTU : VNET_MTU;
	if (virtio_has_feature(vdev, VIRTIO_NET_F_MTU)) {
		virtio_cread(vdev, struct virtio_net_config, mtu, &mtu);
		dev->max_mtu = min_t(u32, dev->max_mtu, mtu);
		dev->mtu = dev->max_mtu;
	}
	dev->priv_flags |= IFF_LIVE_ADDR_CHANGE | IFF_UNICAST_FLT;
	dev->features = NETIF_F_HIGHDMA;
	if (virtio_has_feature(vdev, VIRTIO_NET_F_CSUM)) {
		dev->features |= NETIF_F_HW_CSUM | NETIF_F_SG;
		if (virtio_has_feature(vdev, VIRTIO_NET_F_HOST_TSO4))
			dev->features |= NETIF_F_TSO;
		if (virtio_has_feature(vdev, VIRTIO_NET_F_HOST_TSO6))
			dev->features |= NETIF_F_TSO6;
		if (virtio_has_feature(vdev, VIRTIO_NET_F_HOST_ECN))
			dev->features |= NETIF_F_TSO_ECN;
	}
	dev->hw_features = dev->features & ~NETIF_F_HIGHDMA;
	if (virtio_has_feature(vdev, VIRTIO_NET_F_GUEST_CSUM))
		dev->features |= NETIF_F_RXCSUM;
	dev->vlan_features = dev->features;
	if (virtio_has_feature(vdev, VIRTIO_NET_F_MAC)) {
		virtio_cread_bytes(vdev, offsetof(struct virtio_net_config, mac),
				   addr, ETH_ALEN);
		eth_hw_addr_set(dev, addr);
	} else {
		eth_hw_addr_random(dev);
	}
	netif_carrier_off(dev);
}

/* Whether the module's parameter names the device. */
static bool vnet_wanted(const char *name)
{
	char list[sizeof(devices)], *rest = list, *word;

	kernel_param_lock(THIS_MODULE);
	strscpy(list, devices, sizeof(list));
	kernel_param_unlock(THIS_MODULE);
	while ((word = strsep(&rest, ",")) != NULL) {
		word = strim(word);
		if (!strcmp(word, "all") || !strcmp(word, name))
			return true;
	}
	return false;
}

static void vnet_free(struct vnet *vnet)
{
	vnet_ctrl_free(vnet);
	free_percpu(vnet->dev->tstats);
	free_netdev(vnet->dev);
}

static u16 vnet_device_queues(struct virtio_device *vdev)
{
	u16 queues;

	virtio_cread(vdev, struct virtio_net_config, max_virtqueue_pairs, &queues);
	return queues;
}

static int vnet_probe(struct virtio_device *vdev)
{
	struct net_device *dev;
	struct vnet *vnet;
	u16 queues = 1;
	int err;
	u32 i;

	if (!vnet_wanted(dev_name(&vdev->dev)))
		return -ENODEV;
	/* Of other devices the header is shorter. */
	if (!virtio_has_feature(vdev, VIRTIO_NET_F_MRG_RXBUF) &&
	    !virtio_has_feature(vdev, VIRTIO_F_VERSION_1))
		return -ENODEV;
	if (virtio_has_feature(vdev, VIRTIO_NET_F_MQ))
		queues = vnet_device_queues(vdev);
	dev = alloc_etherdev_mqs(struct_size(vnet, q, queues), queues, queues);
	if (!dev)
		return -ENOMEM;
	vnet = netdev_priv(dev);
	vnet->dev = dev;
	vnet->vdev = vdev;
	vdev->priv = vnet;
	vnet->max_queues = queues;
	vnet->queues = 1;
	vnet->mergeable = virtio_has_feature(vdev, VIRTIO_NET_F_MRG_RXBUF);
	INIT_WORK(&vnet->config, vnet_config);
	INIT_WORK(&vnet->rx_mode, vnet_rx_mode);
	vnet_setup_dev(vnet);
	err = vnet_ctrl_init(vnet);
	dev->tstats = netdev_alloc_pcpu_stats(struct pcpu_sw_netstats);
	if (!dev->tstats)
		err = -ENOMEM;
	if (err)
		goto free;
	for (i = 0; i < queues; i++) {
		struct vnet_queue *q = &vnet->q[i];

		q->vnet = vnet;
		q->number = i;
		vnet_init_queue(q);
	}
	err = netio_nic_register(dev, &vnet_nic_ops);
	if (err)
		goto free;
	/* Else the bus does so behind the back of who brings the interface up. */
	virtio_device_ready(vdev);
	err = register_netdev(dev);
	if (!err)
		return 0;
	virtio_reset_device(vdev);
	netio_nic_unregister(dev);
free:
	vnet_free(vnet);
	return err;
}

static void vnet_remove(struct virtio_device *vdev)
{
	struct vnet *vnet = vdev->priv;
	struct net_device *dev = vnet->dev;

	netio_nic_unregister(dev);
	unregister_netdev(dev);
	virtio_reset_device(vdev);
	cancel_work_sync(&vnet->config);
	cancel_work_sync(&vnet->rx_mode);
	vnet_free(vnet);
}

#ifdef CONFIG_PM_SLEEP
static int vnet_freeze(struct virtio_device *vdev)
{
	struct vnet *vnet = vdev->priv;

	rtnl_lock();
	netif_device_detach(vnet->dev);
	vnet_down(vnet);
	virtio_reset_device(vdev);
	rtnl_unlock();
	flush_work(&vnet->config);
	return 0;
}

static int vnet_restore(struct virtio_device *vdev)
{
	struct vnet *vnet = vdev->priv;
	int err = 0;

	rtnl_lock();
	if (netif_running(vnet->dev))
		err = vnet_up(vnet);
	if (!err)
		netif_device_attach(vnet->dev);
	rtnl_unlock();
	return err;
}
#endif

/* Before features are agreed upon. */
static int vnet_validate(struct virtio_device *vdev)
{
	u16 queues, mtu;

	if (!vdev->config->get)
		return -ENODEV;
	/* A table for each packet would cost more than it saves in the ring. */
	__virtio_clear_bit(vdev, VIRTIO_RING_F_INDIRECT_DESC);
	if (!virtio_has_feature(vdev, VIRTIO_NET_F_MRG_RXBUF)) {
		__virtio_clear_bit(vdev, VIRTIO_NET_F_GUEST_TSO4);
		__virtio_clear_bit(vdev, VIRTIO_NET_F_GUEST_TSO6);
		__virtio_clear_bit(vdev, VIRTIO_NET_F_GUEST_ECN);
	}
	if (virtio_has_feature(vdev, VIRTIO_NET_F_MQ)) {
		queues = vnet_device_queues(vdev);
		if (queues < 1 || queues > VNET_QUEUES)
			__virtio_clear_bit(vdev, VIRTIO_NET_F_MQ);
	}
	/* What is asked for by the control queue. */
	if (!virtio_has_feature(vdev, VIRTIO_NET_F_CTRL_VQ)) {
		__virtio_clear_bit(vdev, VIRTIO_NET_F_MQ);
		__virtio_clear_bit(vdev, VIRTIO_NET_F_CTRL_RX);
		__virtio_clear_bit(vdev, VIRTIO_NET_F_CTRL_MAC_ADDR);
		__virtio_clear_bit(vdev, VIRTIO_NET_F_GUEST_ANNOUNCE);
	}
	if (virtio_has_feature(vdev, VIRTIO_NET_F_MTU)) {
		virtio_cread(vdev, struct virtio_net_config, mtu, &mtu);
		if (mtu < ETH_MIN_MTU)
			__virtio_clear_bit(vdev, VIRTIO_NET_F_MTU);
	}
	return 0;
}

/* Not for the module's table of devices: nothing loads it by itself. */
static const struct virtio_device_id vnet_ids[] = {
	{ VIRTIO_ID_NET, VIRTIO_DEV_ANY_ID },
	{},
};

static const unsigned int vnet_features[] = {
	VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_MAC,
	VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_ECN,
	VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_ECN,
	VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS, VIRTIO_NET_F_CTRL_VQ,
	VIRTIO_NET_F_MQ, VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_CTRL_MAC_ADDR,
	VIRTIO_NET_F_GUEST_ANNOUNCE, VIRTIO_NET_F_MTU,
};

static struct virtio_driver vnet_driver = {
	.driver.name = VNET_NAME,
	.driver.owner = THIS_MODULE,
	.feature_table = vnet_features,
	.feature_table_size = ARRAY_SIZE(vnet_features),
	.id_table = vnet_ids,
	.validate = vnet_validate,
	.probe = vnet_probe,
	.remove = vnet_remove,
	.config_changed = vnet_config_changed,
#ifdef CONFIG_PM_SLEEP
	.freeze = vnet_freeze,
	.restore = vnet_restore,
#endif
};
module_virtio_driver(vnet_driver);

MODULE_DESCRIPTION("NetIO: virtio network cards");
MODULE_AUTHOR("The NetIO authors");
MODULE_LICENSE("GPL");
MODULE_VERSION(NETIO_VERSION);
