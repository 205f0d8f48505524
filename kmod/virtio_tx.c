// SPDX-License-Identifier: GPL-2.0
/* Packets that go out: the process's, in nbufs or parked, and the host's. */
#include <linux/scatterlist.h>

#include "virtio.h"

void vnet_clean(struct vnet_queue *q)
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

int vnet_send_skb(struct net_device *dev, struct sk_buff *skb)
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

int vnet_send(struct net_device *dev, const struct netio_frame *f)
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

void vnet_flush(struct net_device *dev)
{
	struct vnet *vnet = netdev_priv(dev);
	struct vnet_queue *q = vnet_my_queue(vnet);

	__netif_tx_lock(vnet_txq(q), smp_processor_id());
	if (vnet->running && q->more)
		vnet_notify(q);
	__netif_tx_unlock(vnet_txq(q));
}

/* Of the host, with the queue's lock. */
netdev_tx_t vnet_start_xmit(struct sk_buff *skb, struct net_device *dev)
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
