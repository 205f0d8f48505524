// SPDX-License-Identifier: GPL-2.0
/* The control queue: what the device is told beside packets. */
#include <linux/delay.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "virtio.h"

/* How long the device may take for a command. */
#define VNET_PATIENCE	(2 * HZ)

/* A table of MAC addresses: their number, and they. */
#define VNET_TABLE(n)	(sizeof(__virtio32) + (n) * ETH_ALEN)

/* The command under way. */
struct vnet_command {
	struct virtio_net_ctrl_hdr hdr;
	virtio_net_ctrl_ack ack;
	u8 data[2 * VNET_TABLE(VNET_ADDRS)] __aligned(8);
};

int vnet_ctrl_init(struct vnet *vnet)
{
	vnet->command = kzalloc(sizeof(*vnet->command), GFP_KERNEL);
	return vnet->command ? 0 : -ENOMEM;
}

void vnet_ctrl_free(struct vnet *vnet)
{
	kfree(vnet->command);
}

/* Has the device carry out a command with so many bytes of command->data. */
static int vnet_command(struct vnet *vnet, u8 class, u8 cmd, u32 len)
{
	struct scatterlist hdr, data, ack, *sgs[3], **sg = sgs;
	struct vnet_command *c = vnet->command;
	unsigned long end = jiffies + VNET_PATIENCE;
	u32 got;

	if (!vnet->ctrl)
		return -EOPNOTSUPP;
	c->hdr.class = class;
	c->hdr.cmd = cmd;
	c->ack = VIRTIO_NET_ERR;
	sg_init_one(&hdr, &c->hdr, sizeof(c->hdr));
	*sg++ = &hdr;
	if (len) {
		sg_init_one(&data, c->data, len);
		*sg++ = &data;
	}
	sg_init_one(&ack, &c->ack, sizeof(c->ack));
	*sg++ = &ack;
	if (virtqueue_add_sgs(vnet->ctrl, sgs, sg - sgs - 1, 1, vnet, GFP_KERNEL))
		return -EIO;
	virtqueue_kick(vnet->ctrl);
	while (!virtqueue_get_buf(vnet->ctrl, &got)) {
		if (virtqueue_is_broken(vnet->ctrl) || time_after(jiffies, end)) {
			netdev_err(vnet->dev, "no answer to control command %u.%u\n",
				   class, cmd);
			/* It still has the command: no other one until it is reset. */
			vnet->ctrl = NULL;
			return -EIO;
		}
		usleep_range(10, 100);
	}
	return c->ack == VIRTIO_NET_OK ? 0 : -EINVAL;
}

void vnet_set_queues(struct vnet *vnet)
{
	struct virtio_net_ctrl_mq *mq = (void *)vnet->command->data;

	vnet->queues = 1;
	if (vnet->max_queues > 1) {
		mq->virtqueue_pairs = cpu_to_virtio16(vnet->vdev, vnet->max_queues);
		if (!vnet_command(vnet, VIRTIO_NET_CTRL_MQ,
				  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, sizeof(*mq)))
			vnet->queues = vnet->max_queues;
	}
	netif_set_real_num_tx_queues(vnet->dev, vnet->queues);
	netif_set_real_num_rx_queues(vnet->dev, vnet->queues);
}

int vnet_set_mac(struct vnet *vnet, const u8 *addr)
{
	struct virtio_device *vdev = vnet->vdev;
	u8 has[ETH_ALEN];
	u32 i;

	if (virtio_has_feature(vdev, VIRTIO_NET_F_CTRL_MAC_ADDR)) {
		memcpy(vnet->command->data, addr, ETH_ALEN);
		return vnet_command(vnet, VIRTIO_NET_CTRL_MAC,
				    VIRTIO_NET_CTRL_MAC_ADDR_SET, ETH_ALEN);
	}
	if (!virtio_has_feature(vdev, VIRTIO_NET_F_MAC))
		return 0; /* it has none, and lets all addresses pass */
	virtio_cread_bytes(vdev, offsetof(struct virtio_net_config, mac), has, ETH_ALEN);
	if (ether_addr_equal_unaligned(has, addr))
		return 0;
	if (virtio_has_feature(vdev, VIRTIO_F_VERSION_1))
		return -EOPNOTSUPP;
	for (i = 0; i < ETH_ALEN; i++)
		virtio_cwrite8(vdev, offsetof(struct virtio_net_config, mac) + i,
			       addr[i]);
	return 0;
}

/* Appends a table of addresses, of which there are at most VNET_ADDRS. */
static u32 vnet_table(struct vnet *vnet, u32 at, struct netdev_hw_addr_list *list)
{
	u8 *data = vnet->command->data;
	__virtio32 count = cpu_to_virtio32(vnet->vdev, netdev_hw_addr_list_count(list));
	struct netdev_hw_addr *ha;

	memcpy(data + at, &count, sizeof(count));
	at += sizeof(count);
	netdev_hw_addr_list_for_each(ha, list) {
		memcpy(data + at, ha->addr, ETH_ALEN);
		at += ETH_ALEN;
	}
	return at;
}

static int vnet_switch(struct vnet *vnet, u8 cmd, bool on)
{
	vnet->command->data[0] = on;
	return vnet_command(vnet, VIRTIO_NET_CTRL_RX, cmd, 1);
}

void vnet_set_rx_mode(struct vnet *vnet)
{
	struct netdev_hw_addr_list none = { .list = LIST_HEAD_INIT(none.list) };
	struct net_device *dev = vnet->dev;
	bool promisc, allmulti;
	u32 len;

	if (!virtio_has_feature(vnet->vdev, VIRTIO_NET_F_CTRL_RX))
		return;
	netif_addr_lock_bh(dev);
	promisc = dev->flags & IFF_PROMISC || netdev_uc_count(dev) > VNET_ADDRS;
	allmulti = dev->flags & IFF_ALLMULTI || netdev_mc_count(dev) > VNET_ADDRS;
	len = vnet_table(vnet, 0, promisc ? &none : &dev->uc);
	len = vnet_table(vnet, len, allmulti ? &none : &dev->mc);
	netif_addr_unlock_bh(dev);
	if (vnet_command(vnet, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, len) ||
	    vnet_switch(vnet, VIRTIO_NET_CTRL_RX_PROMISC, promisc) ||
	    vnet_switch(vnet, VIRTIO_NET_CTRL_RX_ALLMULTI, allmulti))
		netdev_warn(dev, "the device does not take its receive filter\n");
}

void vnet_announced(struct vnet *vnet)
{
	if (virtio_has_feature(vnet->vdev, VIRTIO_NET_F_GUEST_ANNOUNCE))
		vnet_command(vnet, VIRTIO_NET_CTRL_ANNOUNCE,
			     VIRTIO_NET_CTRL_ANNOUNCE_ACK, 0);
}
