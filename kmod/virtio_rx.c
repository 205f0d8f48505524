// SPDX-License-Identifier: GPL-2.0
/* Packets that come in: to nbufs of a port, or to pages and the host. */
#include "virtio.h"

/* nbufs that are taken at a time. */
#define VNET_BATCH	32

/* sg is one entry of the caller's, to be used again and again. */
static bool vnet_add_buffer(struct vnet_queue *q, struct scatterlist *sg, void *token,
			    void *data)
{
	sg_set_buf(sg, data + VNET_OFF, VNET_ROOM);
	if (virtqueue_add_inbuf(q->rx, sg, 1, token, GFP_ATOMIC))
		return false;
	q->rx_room--;
	q->rx_added = true;
	return true;
}

static bool vnet_fill_nbufs(struct vnet_queue *q)
{
	struct netio_nic *nic = q->vnet->nic;
	u32 index[VNET_BATCH], n, i;
	struct scatterlist sg;

	sg_init_table(&sg, 1);
	while (q->rx_room) {
		n = netio_nic_take(nic, index, min_t(u32, q->rx_room, VNET_BATCH));
		if (!n)
			return false;
		for (i = 0; i < n; i++)
			if (!vnet_add_buffer(q, &sg, vnet_token(index[i]),
					     netio_nic_nbuf(nic, index[i])))
				break;
		if (unlikely(i < n)) {
			netio_nic_put(nic, index + i, n - i);
			break;
		}
	}
	return true;
}

static bool vnet_fill_pages(struct vnet_queue *q)
{
	struct scatterlist sg;
	void *data;

	sg_init_table(&sg, 1);
	while (q->rx_room) {
		data = netdev_alloc_frag(NETIO_NBUF_SIZE);
		if (!data)
			return false;
		if (!vnet_add_buffer(q, &sg, data, data)) {
			skb_free_frag(data);
			break;
		}
	}
	return true;
}

bool vnet_fill(struct vnet_queue *q)
{
	bool ok = q->vnet->nic ? vnet_fill_nbufs(q) : vnet_fill_pages(q);

	if (q->rx_added)
		virtqueue_kick(q->rx);
	q->rx_added = false;
	return ok;
}

void vnet_free_buffer(struct vnet *vnet, void *token)
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

int vnet_receive(struct vnet_queue *q, int budget)
{
	struct vnet *vnet = q->vnet;
	u64 now = ktime_get_ns();
	struct vnet_packet *p = &q->packet;
	struct scatterlist sg;
	int done = 0;
	u32 i;

	sg_init_table(&sg, 1);
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
			if (!vnet_add_buffer(q, &sg, p->token[i],
					     vnet_data(vnet, p->token[i])))
				vnet_free_buffer(vnet, p->token[i]);
	}
	if (done && vnet->nic)
		netio_nic_receive_end(vnet->nic);
	return done;
}
