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
#include <linux/etherdevice.h>
#include <linux/ethtool.h>
#include <linux/module.h>
#include <linux/rtnetlink.h>
#include <linux/scatterlist.h>
#include <linux/string.h>
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
#define VNET_ROOM	(NETIO_NBUF_SIZE - VNET_OFF)
#define VNET_MTU	(VNET_ROOM - ETH_HLEN - VNET_HDR)	/* in one buffer */
#define VNET_QUEUES	64
/* How soon to look again for buffers when there are none. */
#define VNET_REFILL	(HZ / 50)

static char devices[256];
module_param_string(devices, devices, sizeof(devices), 0644);
MODULE_PARM_DESC(devices, "names of virtio devices that may be driven (virtio0,virtio1), or all; default none");

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
	struct virtqueue *ctrl;
	struct work_struct config;
	u32 max_queues, queues;
	bool running;
	bool mergeable;
	struct virtio_net_ctrl_hdr ctrl_hdr;
	struct virtio_net_ctrl_mq ctrl_mq;
	virtio_net_ctrl_ack ctrl_ack;
	struct vnet_queue q[];
};

/*
 * What a queue is given with a buffer: an nbuf's number, or a page fragment's
 * or skb's address, which is even.
 */
static void *vnet_token(u32 index)
{
	return (void *)(((unsigned long)index << 1) | 1);
}

static bool vnet_is_nbuf(void *token)
{
	return (unsigned long)token & 1;
}

static u32 vnet_index(void *token)
{
	return (unsigned long)token >> 1;
}

/* --- receiving ------------------------------------------------------------- */

static bool vnet_add_buffer(struct vnet_queue *q, void *token, void *data)
{
	struct scatterlist sg;

	sg_init_one(&sg, data + VNET_OFF, VNET_ROOM);
	if (virtqueue_add_inbuf(q->rx, &sg, 1, token, GFP_ATOMIC))
		return false;
	q->rx_room--;
	q->rx_added = true;
	return true;
}

/* False: there are none to be had now. */
static bool vnet_fill(struct vnet_queue *q)
{
	struct netio_nic *nic = q->vnet->nic;
	bool done = true, ok = true;
	void *data;
	u32 index;

	while (q->rx_room && done) {
		if (nic) {
			if (!netio_nic_take(nic, &index, 1)) {
				ok = false;
				break;
			}
			done = vnet_add_buffer(q, vnet_token(index),
					       netio_nic_nbuf(nic, index));
			if (!done)
				netio_nic_put(nic, &index, 1);
		} else {
			data = netdev_alloc_frag(NETIO_NBUF_SIZE);
			if (!data) {
				ok = false;
				break;
			}
			done = vnet_add_buffer(q, data, data);
			if (!done)
				skb_free_frag(data);
		}
	}
	if (q->rx_added)
		virtqueue_kick(q->rx);
	q->rx_added = false;
	return ok;
}

static void vnet_refill(struct work_struct *work)
{
	struct vnet_queue *q = container_of(to_delayed_work(work),
					    struct vnet_queue, refill);

	/* The only one to fill the queue is its poll. */
	local_bh_disable();
	napi_schedule(&q->napi);
	local_bh_enable();
}

static void vnet_free_buffer(struct vnet *vnet, void *token)
{
	u32 index = vnet_index(token);

	if (vnet_is_nbuf(token))
		netio_nic_put(vnet->nic, &index, 1);
	else
		skb_free_frag(token);
}

static void *vnet_data(struct vnet *vnet, void *token)
{
	return vnet_is_nbuf(token) ? netio_nic_nbuf(vnet->nic, vnet_index(token)) :
				     token;
}

/* All of it is copied: an nbuf may change while the host looks at it. */
static void vnet_host(struct vnet_queue *q, struct vnet_packet *p)
{
	struct vnet *vnet = q->vnet;
	struct net_device *dev = vnet->dev;
	u32 at = 0, i, linear = min_t(u32, p->len, NETIO_NBUF_SIZE);
	struct sk_buff *skb;
	int err;

	skb = alloc_skb_with_frags(NET_SKB_PAD + NET_IP_ALIGN + linear,
				   p->len - linear, PAGE_ALLOC_COSTLY_ORDER, &err,
				   GFP_ATOMIC);
	if (!skb) {
		DEV_STATS_INC(dev, rx_dropped);
		return;
	}
	skb_reserve(skb, NET_SKB_PAD + NET_IP_ALIGN);
	skb_put(skb, linear);
	skb->data_len = p->len - linear;
	skb->len = p->len;
	for (i = 0; i < p->count; i++) {
		if (skb_store_bits(skb, at, vnet_data(vnet, p->token[i]) +
				   p->piece[i].off, p->piece[i].len))
			goto wrong;
		at += p->piece[i].len;
	}
	if (p->hdr.flags & VIRTIO_NET_HDR_F_DATA_VALID)
		skb->ip_summed = CHECKSUM_UNNECESSARY;
	if (virtio_net_hdr_to_skb(skb, &p->hdr,
				  virtio_is_little_endian(vnet->vdev)))
		goto wrong;
	skb_record_rx_queue(skb, q->number);
	skb->protocol = eth_type_trans(skb, dev);
	napi_gro_receive(&q->napi, skb);
	return;
wrong:
	DEV_STATS_INC(dev, rx_frame_errors);
	kfree_skb(skb);
}

static enum netio_nic_verdict vnet_netio(struct vnet *vnet, struct vnet_packet *p,
					 u64 now)
{
	struct netio_frame f = {
		.pieces = p->piece, .count = p->count, .len = p->len,
		.gso_type = p->hdr.gso_type, .tstamp = now,
	};

	if (p->hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		f.flags = NETIO_NB_CSUM_PARTIAL;
		f.csum_start = virtio16_to_cpu(vnet->vdev, p->hdr.csum_start);
		f.csum_offset = virtio16_to_cpu(vnet->vdev, p->hdr.csum_offset);
	} else if (p->hdr.flags & VIRTIO_NET_HDR_F_DATA_VALID) {
		f.flags = NETIO_NB_CSUM_VALID;
	}
	if (f.gso_type)
		f.gso_size = virtio16_to_cpu(vnet->vdev, p->hdr.gso_size);
	return netio_nic_receive(vnet->nic, &f);
}

/* Takes the next packet off the queue; false: there is none. */
static bool vnet_next(struct vnet_queue *q, struct vnet_packet *p)
{
	struct vnet *vnet = q->vnet;
	struct virtio_net_hdr_mrg_rxbuf *hdr;
	u32 len, i, n = 1, off = VNET_OFF + VNET_HDR;
	void *token;

	token = virtqueue_get_buf(q->rx, &len);
	if (!token)
		return false;
	q->rx_room++;
	p->token[0] = token;
	p->count = 1;
	p->len = 0;
	hdr = vnet_data(vnet, token) + VNET_OFF;
	/* Once: it may lie in an nbuf. */
	p->hdr.flags = READ_ONCE(hdr->hdr.flags);
	p->hdr.gso_type = READ_ONCE(hdr->hdr.gso_type);
	p->hdr.hdr_len = READ_ONCE(hdr->hdr.hdr_len);
	p->hdr.gso_size = READ_ONCE(hdr->hdr.gso_size);
	p->hdr.csum_start = READ_ONCE(hdr->hdr.csum_start);
	p->hdr.csum_offset = READ_ONCE(hdr->hdr.csum_offset);
	if (vnet->mergeable)
		n = virtio16_to_cpu(vnet->vdev, READ_ONCE(hdr->num_buffers));
	if (len <= VNET_HDR || len > VNET_ROOM)
		return true;
	p->piece[0].off = off;
	p->piece[0].len = len - VNET_HDR;
	p->len = len - VNET_HDR;
	if (likely(n == 1))
		goto done;
	if (!n || n > NETIO_FRAME_PIECES)
		goto wrong;
	for (i = 1; i < n; i++) {
		token = virtqueue_get_buf(q->rx, &len);
		if (!token)
			goto wrong;
		q->rx_room++;
		p->token[p->count] = token;
		p->piece[p->count].off = VNET_OFF;
		p->piece[p->count].len = len;
		p->count++;
		if (!len || len > VNET_ROOM)
			goto wrong;
		p->len += len;
	}
done:
	for (i = 0; i < p->count && vnet->nic; i++)
		p->piece[i].index = vnet_index(p->token[i]);
	return true;
wrong:
	p->len = 0;
	return true;
}

static int vnet_receive(struct vnet_queue *q, int budget)
{
	struct vnet *vnet = q->vnet;
	u64 now = ktime_get_ns();
	struct vnet_packet *p = &q->packet;
	int done = 0;
	u32 i;

	while (done < budget && vnet_next(q, p)) {
		enum netio_nic_verdict verdict = NETIO_NIC_HOST;

		done++;
		if (unlikely(!p->len)) {
			DEV_STATS_INC(vnet->dev, rx_length_errors);
			goto reuse;
		}
		dev_sw_netstats_rx_add(vnet->dev, p->len);
		if (vnet->nic) {
			verdict = vnet_netio(vnet, p, now);
			if (verdict == NETIO_NIC_TAKEN)
				continue;
		}
		if (verdict == NETIO_NIC_HOST)
			vnet_host(q, p);
reuse:
		for (i = 0; i < p->count; i++)
			if (!vnet_add_buffer(q, p->token[i],
					     vnet_data(vnet, p->token[i])))
				vnet_free_buffer(vnet, p->token[i]);
	}
	if (done && vnet->nic)
		netio_nic_receive_end(vnet->nic);
	return done;
}

/* --- sending --------------------------------------------------------------- */

/* Frees what the device has sent. The transmit queue's lock is held. */
static void vnet_clean(struct vnet_queue *q)
{
	struct vnet *vnet = q->vnet;
	u32 first[NETIO_FRAME_PIECES], n = 0, len;
	void *token;

	while ((token = virtqueue_get_buf(q->tx, &len)) != NULL) {
		if (!vnet_is_nbuf(token)) {
			napi_consume_skb(token, 1);
			continue;
		}
		first[n] = vnet_index(token);
		q->head_free[q->heads_left++] = q->head_of[first[n]];
		if (++n == ARRAY_SIZE(first)) {
			netio_nic_sent(vnet->nic, first, n);
			n = 0;
		}
	}
	if (n)
		netio_nic_sent(vnet->nic, first, n);
}

static struct netdev_queue *vnet_txq(struct vnet_queue *q)
{
	return netdev_get_tx_queue(q->vnet->dev, q->number);
}

static struct vnet_queue *vnet_my_queue(struct vnet *vnet)
{
	return &vnet->q[smp_processor_id() % vnet->queues];
}

/* Adds an skb that has its Ethernet header. The queue's lock is held. */
static int vnet_add_skb(struct vnet_queue *q, struct sk_buff *skb)
{
	struct scatterlist *sg = q->sg;
	struct virtio_net_hdr_mrg_rxbuf *hdr;
	int n;

	/* Room for it was seen to: see vnet_setup_dev(). */
	if (skb_cow_head(skb, VNET_HDR))
		return -ENOMEM;
	hdr = (void *)skb->data - VNET_HDR;
	if (virtio_net_hdr_from_skb(skb, &hdr->hdr,
				    virtio_is_little_endian(q->vnet->vdev), false, 0))
		return -EINVAL;
	hdr->num_buffers = 0;
	__skb_push(skb, VNET_HDR);
	sg_init_table(sg, skb_shinfo(skb)->nr_frags + 2);
	n = skb_to_sgvec(skb, sg, 0, skb->len);
	if (n > 0)
		n = virtqueue_add_outbuf(q->tx, sg, n, skb, GFP_ATOMIC);
	if (n) /* it is the caller's, as it was */
		__skb_pull(skb, VNET_HDR);
	return n;
}

static int vnet_send_skb(struct net_device *dev, struct sk_buff *skb)
{
	struct vnet *vnet = netdev_priv(dev);
	struct vnet_queue *q = vnet_my_queue(vnet);
	u32 len = skb->len;
	int err = -ENOBUFS;

	__netif_tx_lock(vnet_txq(q), smp_processor_id());
	if (likely(vnet->running)) {
		vnet_clean(q);
		err = vnet_add_skb(q, skb);
	}
	if (likely(!err)) {
		q->more = true;
		dev_sw_netstats_tx_add(dev, 1, len);
	}
	__netif_tx_unlock(vnet_txq(q));
	return err;
}

static int vnet_send(struct net_device *dev, const struct netio_frame *f)
{
	struct vnet *vnet = netdev_priv(dev);
	struct vnet_queue *q = vnet_my_queue(vnet);
	struct scatterlist *sg = q->sg;
	struct vnet_head *head;
	int err = -ENOBUFS;
	u32 i;

	__netif_tx_lock(vnet_txq(q), smp_processor_id());
	if (unlikely(!vnet->running))
		goto out;
	vnet_clean(q);
	if (!q->heads_left)
		goto out;
	i = q->head_free[--q->heads_left];
	q->head_of[f->pieces[0].index] = i;
	head = &q->heads[i];
	memset(&head->hdr, 0, sizeof(head->hdr));
	if (f->flags & NETIO_NB_CSUM_PARTIAL) {
		head->hdr.hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		head->hdr.hdr.csum_start = cpu_to_virtio16(vnet->vdev,
							   f->csum_start + ETH_HLEN);
		head->hdr.hdr.csum_offset = cpu_to_virtio16(vnet->vdev, f->csum_offset);
	}
	head->l2 = f->l2;
	sg_init_table(sg, f->count + 1);
	sg_set_buf(&sg[0], head, sizeof(*head));
	for (i = 0; i < f->count; i++)
		sg_set_buf(&sg[i + 1], netio_nic_nbuf(vnet->nic, f->pieces[i].index) +
				       f->pieces[i].off, f->pieces[i].len);
	err = virtqueue_add_outbuf(q->tx, sg, f->count + 1,
				   vnet_token(f->pieces[0].index), GFP_ATOMIC);
	if (unlikely(err)) {
		q->heads_left++;
		err = -ENOBUFS;
		goto out;
	}
	q->more = true;
	dev_sw_netstats_tx_add(dev, 1, f->len + ETH_HLEN);
out:
	__netif_tx_unlock(vnet_txq(q));
	return err;
}

/* Notifies the device, and asks it to tell when most has been sent. */
static void vnet_notify(struct vnet_queue *q)
{
	q->more = false;
	virtqueue_kick(q->tx);
	if (!virtqueue_enable_cb_delayed(q->tx))
		napi_schedule(&q->napi);
}

static void vnet_flush(struct net_device *dev)
{
	struct vnet *vnet = netdev_priv(dev);
	struct vnet_queue *q = vnet_my_queue(vnet);

	__netif_tx_lock(vnet_txq(q), smp_processor_id());
	if (vnet->running && q->more)
		vnet_notify(q);
	__netif_tx_unlock(vnet_txq(q));
}

/* Of the host, with the queue's lock. */
static netdev_tx_t vnet_start_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct vnet *vnet = netdev_priv(dev);
	struct vnet_queue *q = &vnet->q[skb_get_queue_mapping(skb)];
	u32 len = skb->len;

	vnet_clean(q);
	skb_orphan(skb);
	nf_reset_ct(skb);
	if (vnet_add_skb(q, skb)) {
		DEV_STATS_INC(dev, tx_dropped);
		dev_kfree_skb_any(skb);
	} else {
		dev_sw_netstats_tx_add(dev, 1, len);
		q->more = true;
	}
	/* Packets of NetIO's may come in between: leave the host a few less. */
	if (q->tx->num_free < MAX_SKB_FRAGS + 3) {
		netif_tx_stop_queue(vnet_txq(q));
		vnet_notify(q);
	} else if (!netdev_xmit_more()) {
		vnet_notify(q);
	}
	return NETDEV_TX_OK;
}

/* --- interrupts ------------------------------------------------------------ */

static void vnet_schedule(struct vnet_queue *q)
{
	if (napi_schedule_prep(&q->napi)) {
		virtqueue_disable_cb(q->rx);
		__napi_schedule(&q->napi);
	}
}

static int vnet_poll(struct napi_struct *napi, int budget)
{
	struct vnet_queue *q = container_of(napi, struct vnet_queue, napi);
	struct netdev_queue *txq = vnet_txq(q);
	bool sent_more;
	unsigned int rx;
	int done;

	__netif_tx_lock(txq, smp_processor_id());
	vnet_clean(q);
	if (netif_tx_queue_stopped(txq) && q->tx->num_free >= MAX_SKB_FRAGS + 3)
		netif_tx_wake_queue(txq);
	sent_more = !virtqueue_enable_cb_delayed(q->tx);
	__netif_tx_unlock(txq);
	if (!budget)
		return 0;
	done = vnet_receive(q, budget);
	if (!vnet_fill(q))
		schedule_delayed_work(&q->refill, VNET_REFILL);
	if (done == budget || sent_more)
		return budget;
	/* What came in before interrupts are on again raised none. */
	rx = virtqueue_enable_cb_prepare(q->rx);
	if (!napi_complete_done(napi, done))
		virtqueue_disable_cb(q->rx);
	else if (virtqueue_poll(q->rx, rx))
		vnet_schedule(q);
	return done;
}

static void vnet_interrupt(struct virtqueue *vq)
{
	struct vnet *vnet = vq->vdev->priv;

	vnet_schedule(&vnet->q[vq->index / 2]);
}

/* --- up and down ------------------------------------------------------------ */

static int vnet_find_queues(struct vnet *vnet)
{
	bool ctrl = vnet->max_queues > 1;
	u32 n = 2 * vnet->max_queues + ctrl, i;
	struct virtqueue **vqs = kcalloc(n, sizeof(*vqs), GFP_KERNEL);
	struct virtqueue_info *info = kcalloc(n, sizeof(*info), GFP_KERNEL);
	int err = -ENOMEM;

	if (!vqs || !info)
		goto out;
	for (i = 0; i < 2 * vnet->max_queues; i++) {
		info[i].name = i & 1 ? "output" : "input";
		info[i].callback = vnet_interrupt;
	}
	if (ctrl)
		info[n - 1].name = "control";
	err = virtio_find_vqs(vnet->vdev, n, vqs, info, NULL);
	if (err)
		goto out;
	for (i = 0; i < vnet->max_queues; i++) {
		vnet->q[i].rx = vqs[2 * i];
		vnet->q[i].tx = vqs[2 * i + 1];
	}
	vnet->ctrl = ctrl ? vqs[n - 1] : NULL;
out:
	kfree(vqs);
	kfree(info);
	return err;
}

/* Back to where probe() found the device. */
static int vnet_reset(struct vnet *vnet)
{
	struct virtio_device *vdev = vnet->vdev;
	int err;

	virtio_reset_device(vdev);
	virtio_add_status(vdev, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	virtio_add_status(vdev, VIRTIO_CONFIG_S_DRIVER);
	err = vdev->config->finalize_features(vdev);
	if (!err && virtio_has_feature(vdev, VIRTIO_F_VERSION_1))
		virtio_add_status(vdev, VIRTIO_CONFIG_S_FEATURES_OK);
	return err;
}

static int vnet_alloc_heads(struct vnet_queue *q)
{
	u32 i;

	q->head_count = virtqueue_get_vring_size(q->tx) / 2;
	q->heads = kcalloc(q->head_count, sizeof(*q->heads), GFP_KERNEL);
	q->head_free = kcalloc(q->head_count, sizeof(*q->head_free), GFP_KERNEL);
	q->head_of = kvcalloc(netio_nic_nbufs(q->vnet->nic), sizeof(*q->head_of),
			      GFP_KERNEL);
	if (!q->heads || !q->head_free || !q->head_of)
		return -ENOMEM;
	for (i = 0; i < q->head_count; i++)
		q->head_free[i] = i;
	q->heads_left = q->head_count;
	return 0;
}

/* Tells the device how many queues there are; without that it is one. */
static void vnet_set_queues(struct vnet *vnet)
{
	struct scatterlist hdr, data, ack, *sgs[3] = { &hdr, &data, &ack };
	u32 len, tries = 1000000;

	vnet->queues = 1;
	if (!vnet->ctrl)
		goto out;
	vnet->ctrl_hdr.class = VIRTIO_NET_CTRL_MQ;
	vnet->ctrl_hdr.cmd = VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET;
	vnet->ctrl_mq.virtqueue_pairs = cpu_to_virtio16(vnet->vdev, vnet->max_queues);
	vnet->ctrl_ack = VIRTIO_NET_ERR;
	sg_init_one(&hdr, &vnet->ctrl_hdr, sizeof(vnet->ctrl_hdr));
	sg_init_one(&data, &vnet->ctrl_mq, sizeof(vnet->ctrl_mq));
	sg_init_one(&ack, &vnet->ctrl_ack, sizeof(vnet->ctrl_ack));
	if (virtqueue_add_sgs(vnet->ctrl, sgs, 2, 1, vnet, GFP_KERNEL))
		goto out;
	virtqueue_kick(vnet->ctrl);
	while (!virtqueue_get_buf(vnet->ctrl, &len) && tries-- &&
	       !virtqueue_is_broken(vnet->ctrl))
		cpu_relax();
	if (vnet->ctrl_ack == VIRTIO_NET_OK)
		vnet->queues = vnet->max_queues;
out:
	netif_set_real_num_tx_queues(vnet->dev, vnet->queues);
	netif_set_real_num_rx_queues(vnet->dev, vnet->queues);
}

static void vnet_free_queue(struct vnet_queue *q)
{
	struct vnet *vnet = q->vnet;
	void *token;
	u32 first;

	local_bh_disable();
	while ((token = virtqueue_detach_unused_buf(q->rx)) != NULL)
		vnet_free_buffer(vnet, token);
	while ((token = virtqueue_detach_unused_buf(q->tx)) != NULL) {
		if (!vnet_is_nbuf(token)) {
			dev_kfree_skb(token);
			continue;
		}
		first = vnet_index(token);
		netio_nic_sent(vnet->nic, &first, 1);
	}
	local_bh_enable();
	kfree(q->heads);
	kfree(q->head_free);
	kvfree(q->head_of);
	q->heads = NULL;
	q->head_free = NULL;
	q->head_of = NULL;
	q->heads_left = 0;
}

static void vnet_free_queues(struct vnet *vnet)
{
	u32 i;

	for (i = 0; i < vnet->max_queues; i++)
		vnet_free_queue(&vnet->q[i]);
	vnet->vdev->config->del_vqs(vnet->vdev);
}

/* Takes back all that the device has, and stops it. rtnl is held. */
static void vnet_down(struct vnet *vnet)
{
	u32 i;

	if (!vnet->running)
		return;
	netif_tx_disable(vnet->dev);
	for (i = 0; i < vnet->max_queues; i++) {
		napi_disable(&vnet->q[i].napi);
		cancel_delayed_work_sync(&vnet->q[i].refill);
	}
	netif_tx_lock_bh(vnet->dev);
	vnet->running = false;
	netif_tx_unlock_bh(vnet->dev);
	virtio_reset_device(vnet->vdev);
	vnet_free_queues(vnet);
}

/* rtnl is held. */
static int vnet_up(struct vnet *vnet)
{
	int err;
	u32 i;

	err = vnet_reset(vnet);
	if (!err)
		err = vnet_find_queues(vnet);
	if (err)
		return err;
	for (i = 0; i < vnet->max_queues; i++) {
		vnet->q[i].rx_room = virtqueue_get_vring_size(vnet->q[i].rx);
		vnet->q[i].more = false;
		if (vnet->nic && !err)
			err = vnet_alloc_heads(&vnet->q[i]);
	}
	if (err) {
		vnet_free_queues(vnet);
		return err;
	}
	virtio_device_ready(vnet->vdev);
	vnet_set_queues(vnet);
	vnet->running = true;
	for (i = 0; i < vnet->max_queues; i++)
		napi_enable(&vnet->q[i].napi);
	/* They fill their queues. */
	local_bh_disable();
	for (i = 0; i < vnet->max_queues; i++)
		napi_schedule(&vnet->q[i].napi);
	local_bh_enable();
	netif_tx_start_all_queues(vnet->dev);
	schedule_work(&vnet->config);
	return 0;
}

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

static const struct net_device_ops vnet_netdev_ops = {
	.ndo_open = vnet_open,
	.ndo_stop = vnet_stop,
	.ndo_start_xmit = vnet_start_xmit,
	.ndo_get_stats64 = dev_get_tstats64,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_set_mac_address = eth_mac_addr,
};

static void vnet_drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	const struct vnet *vnet = netdev_priv(dev);

	strscpy(info->driver, VNET_NAME, sizeof(info->driver));
	strscpy(info->bus_info, dev_name(&vnet->vdev->dev), sizeof(info->bus_info));
}

static const struct ethtool_ops vnet_ethtool_ops = {
	.get_drvinfo = vnet_drvinfo,
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

	SET_NETDEV_DEV(dev, &vdev->dev);
	dev->netdev_ops = &vnet_netdev_ops;
	dev->ethtool_ops = &vnet_ethtool_ops;
	dev->needed_headroom = VNET_HDR;
	dev->min_mtu = ETH_MIN_MTU;
	dev->max_mtu = vnet->mergeable ? ETH_MAX_MTU : VNET_MTU;
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

static int vnet_probe(struct virtio_device *vdev)
{
	struct net_device *dev;
	struct vnet *vnet;
	u16 queues = 1;
	int err;
	u32 i;

	if (!vnet_wanted(dev_name(&vdev->dev)) || !vdev->config->get)
		return -ENODEV;
	/* Of other devices the header is shorter. */
	if (!virtio_has_feature(vdev, VIRTIO_NET_F_MRG_RXBUF) &&
	    !virtio_has_feature(vdev, VIRTIO_F_VERSION_1))
		return -ENODEV;
	if (virtio_has_feature(vdev, VIRTIO_NET_F_MQ) &&
	    virtio_has_feature(vdev, VIRTIO_NET_F_CTRL_VQ))
		virtio_cread(vdev, struct virtio_net_config, max_virtqueue_pairs,
			     &queues);
	if (queues < 1 || queues > VNET_QUEUES)
		queues = 1;
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
	vnet_setup_dev(vnet);
	err = -ENOMEM;
	dev->tstats = netdev_alloc_pcpu_stats(struct pcpu_sw_netstats);
	if (!dev->tstats)
		goto free;
	for (i = 0; i < queues; i++) {
		struct vnet_queue *q = &vnet->q[i];

		q->vnet = vnet;
		q->number = i;
		INIT_DELAYED_WORK(&q->refill, vnet_refill);
		netif_napi_add(dev, &q->napi, vnet_poll);
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
	free_percpu(dev->tstats);
	free_netdev(dev);
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
	free_percpu(dev->tstats);
	free_netdev(dev);
}

/* Before features are agreed upon. */
static int vnet_validate(struct virtio_device *vdev)
{
	/* A table for each packet would cost more than it saves in the ring. */
	__virtio_clear_bit(vdev, VIRTIO_RING_F_INDIRECT_DESC);
	if (!virtio_has_feature(vdev, VIRTIO_NET_F_MRG_RXBUF)) {
		__virtio_clear_bit(vdev, VIRTIO_NET_F_GUEST_TSO4);
		__virtio_clear_bit(vdev, VIRTIO_NET_F_GUEST_TSO6);
		__virtio_clear_bit(vdev, VIRTIO_NET_F_GUEST_ECN);
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
	VIRTIO_NET_F_MQ,
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
};
module_virtio_driver(vnet_driver);

MODULE_DESCRIPTION("NetIO: virtio network cards");
MODULE_AUTHOR("The NetIO authors");
MODULE_LICENSE("GPL");
MODULE_VERSION(NETIO_VERSION);
