// SPDX-License-Identifier: GPL-2.0
/* The queues of the device: made, served, and ended. */
#include <linux/cpumask.h>
#include <linux/slab.h>

#include "virtio.h"

/* How soon to look again for buffers when there are none. */
#define VNET_REFILL	(HZ / 50)

static void vnet_refill(struct work_struct *work)
{
	struct vnet_queue *q = container_of(to_delayed_work(work),
					    struct vnet_queue, refill);

	/* The only one to fill the queue is its poll. */
	local_bh_disable();
	napi_schedule(&q->napi);
	local_bh_enable();
}

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

void vnet_init_queue(struct vnet_queue *q)
{
	snprintf(q->name[0], sizeof(q->name[0]), "input.%u", q->number);
	snprintf(q->name[1], sizeof(q->name[1]), "output.%u", q->number);
	INIT_DELAYED_WORK(&q->refill, vnet_refill);
	netif_napi_add(q->vnet->dev, &q->napi, vnet_poll);
}

/* --- up and down ---------------------------------------------------------- */

/* A processor's queue, see vnet_my_queue(), interrupts that processor. */
static void vnet_spread(struct vnet *vnet)
{
	cpumask_var_t mask;
	u32 i, cpu;

	if (vnet->max_queues == 1 || !zalloc_cpumask_var(&mask, GFP_KERNEL))
		return;
	for (i = 0; i < vnet->max_queues; i++) {
		cpumask_clear(mask);
		for_each_online_cpu(cpu)
			if (cpu % vnet->max_queues == i)
				cpumask_set_cpu(cpu, mask);
		if (cpumask_empty(mask))
			continue;
		virtqueue_set_affinity(vnet->q[i].rx, mask);
		virtqueue_set_affinity(vnet->q[i].tx, mask);
		netif_set_xps_queue(vnet->dev, mask, i);
	}
	free_cpumask_var(mask);
}

static int vnet_find_queues(struct vnet *vnet)
{
	bool ctrl = virtio_has_feature(vnet->vdev, VIRTIO_NET_F_CTRL_VQ);
	u32 n = 2 * vnet->max_queues + ctrl, i;
	struct virtqueue **vqs = kcalloc(n, sizeof(*vqs), GFP_KERNEL);
	struct virtqueue_info *info = kcalloc(n, sizeof(*info), GFP_KERNEL);
	int err = -ENOMEM;

	if (!vqs || !info)
		goto out;
	for (i = 0; i < 2 * vnet->max_queues; i++) {
		info[i].name = vnet->q[i / 2].name[i & 1];
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
	vnet_spread(vnet);
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

/* Takes back all that the device has, and stops it. */
void vnet_down(struct vnet *vnet)
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

int vnet_up(struct vnet *vnet)
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
	/* The device has forgotten all that it was told. */
	vnet_set_queues(vnet);
	if (vnet_set_mac(vnet, vnet->dev->dev_addr))
		netdev_warn(vnet->dev, "the device does not take its MAC address\n");
	vnet_set_rx_mode(vnet);
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
