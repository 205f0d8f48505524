/* SPDX-License-Identifier: GPL-2.0 */
/*
 * netio_virtio, a driver of virtio network cards:
 *
 *	virtio_main.c	the interface, and what the device is asked to be able to
 *	virtio_queue.c	its queues: made, filled, emptied, ended; interrupts
 *	virtio_rx.c	packets that come in
 *	virtio_tx.c	packets that go out
 *	virtio_ctrl.c	what the device is told beside packets
 */
#ifndef NETIO_VIRTIO_H
#define NETIO_VIRTIO_H

#include <linux/etherdevice.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include <net/netio.h>

#include "compat.h"

#define VNET_NAME	"netio_virtio"
#define VNET_HDR	sizeof(struct virtio_net_hdr_mrg_rxbuf)
/* A packet's first buffer: its L3 header is where a process looks for it. */
#define VNET_OFF	(NETIO_NBUF_DATA - ETH_HLEN - VNET_HDR)
#define VNET_ROOM	(VNET_HDR + ETH_HLEN + NETIO_NBUF_FILL)
#define VNET_MTU	NETIO_NBUF_FILL		/* in one buffer */
#define VNET_QUEUES	64
#define VNET_ADDRS	64	/* more in the device's filter: all packets */

/* What the device reads before a packet from nbufs, out of a process's reach. */
struct vnet_head {
	struct virtio_net_hdr_mrg_rxbuf hdr;
	struct ethhdr l2;
} __packed;

/* A packet in its buffers. */
struct vnet_packet {
	void *token[NETIO_FRAME_PIECES];
	struct netio_piece piece[NETIO_FRAME_PIECES];	/* offset and length */
	u32 count, len;
	struct virtio_net_hdr hdr;
};

struct vnet_queue {
	struct vnet *vnet;
	struct virtqueue *rx, *tx;
	struct napi_struct napi;	/* of both */
	struct delayed_work refill;
	u32 number;
	char name[2][16];	/* of both, for /proc/interrupts */
	u32 rx_room;		/* buffers that rx can have more */
	bool rx_added;		/* and the device was not notified */
	struct vnet_head *heads;	/* of nbufs that are sent */
	u16 *head_free;
	u16 *head_of;		/* by nbuf */
	u32 head_count;
	u32 heads_left;
	bool more;		/* queued up without a notification */
	/* too large for a stack: of who sends, and of who receives */
	struct scatterlist sg[NETIO_FRAME_PIECES + 1];
	struct vnet_packet packet;
};

struct vnet {
	struct virtio_device *vdev;
	struct net_device *dev;
	struct netio_nic *nic;	/* NULL: no port. Changed while all is at rest */
	struct virtqueue *ctrl;	/* under rtnl */
	struct work_struct config, rx_mode;
	u32 max_queues, queues;
	bool running;
	bool mergeable;
	struct vnet_command *command;
	struct vnet_queue q[];
};

/*
 * What a queue is given with a buffer: an nbuf's number, or a page fragment's
 * or skb's address, which is even.
 */
static inline void *vnet_token(u32 index)
{
	return (void *)(((unsigned long)index << 1) | 1);
}

static inline bool vnet_is_nbuf(void *token)
{
	return (unsigned long)token & 1;
}

static inline u32 vnet_index(void *token)
{
	return (unsigned long)token >> 1;
}

static inline struct netdev_queue *vnet_txq(struct vnet_queue *q)
{
	return netdev_get_tx_queue(q->vnet->dev, q->number);
}

/* virtio_rx.c, in a queue's poll */
int vnet_receive(struct vnet_queue *q, int budget);
/* False: there are no buffers to be had now. */
bool vnet_fill(struct vnet_queue *q);
void vnet_free_buffer(struct vnet *vnet, void *token);

/* virtio_tx.c */
/* Frees what the device has sent. The transmit queue's lock is held. */
void vnet_clean(struct vnet_queue *q);
netdev_tx_t vnet_start_xmit(struct sk_buff *skb, struct net_device *dev);
int vnet_send_skb(struct net_device *dev, struct sk_buff *skb);
int vnet_send(struct net_device *dev, const struct netio_frame *f);
void vnet_flush(struct net_device *dev);

/* virtio_queue.c, under rtnl */
int vnet_up(struct vnet *vnet);
void vnet_down(struct vnet *vnet);
void vnet_init_queue(struct vnet_queue *q);

/* virtio_ctrl.c. Of commands: under rtnl, while the device runs. */
int vnet_ctrl_init(struct vnet *vnet);
void vnet_ctrl_free(struct vnet *vnet);
/* Tells the device how many queues there are; without that it is one. */
void vnet_set_queues(struct vnet *vnet);
int vnet_set_mac(struct vnet *vnet, const u8 *addr);
void vnet_set_rx_mode(struct vnet *vnet);
void vnet_announced(struct vnet *vnet);

#endif /* NETIO_VIRTIO_H */
