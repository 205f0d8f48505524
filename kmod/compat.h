/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between the kernels from 5.10 on that NetIO is built for, all of
 * it. The code everywhere else is written for the newest one.
 */
#ifndef NETIO_COMPAT_H
#define NETIO_COMPAT_H

#include <linux/version.h>
#include <linux/hrtimer.h>
#include <linux/mm.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <net/rtnetlink.h>

#define NETIO_KERNEL(a, b) (LINUX_VERSION_CODE >= KERNEL_VERSION(a, b, 0))

#if NETIO_KERNEL(6, 12)
#include <linux/unaligned.h>
#else
#include <asm/unaligned.h>
#endif
#if NETIO_KERNEL(6, 5)
#include <net/gso.h>
#endif

#if !NETIO_KERNEL(5, 11)
static inline void dev_sw_netstats_tx_add(struct net_device *dev,
					  unsigned int packets, unsigned int len)
{
	struct pcpu_sw_netstats *s = this_cpu_ptr(dev->tstats);

	u64_stats_update_begin(&s->syncp);
	s->tx_bytes += len;
	s->tx_packets += packets;
	u64_stats_update_end(&s->syncp);
}

static inline void dev_get_tstats64(struct net_device *dev,
				    struct rtnl_link_stats64 *s)
{
	netdev_stats_to_stats64(s, &dev->stats);
	dev_fetch_sw_netstats(s, dev->tstats);
}
#endif

#ifndef DEV_STATS_INC
#define DEV_STATS_INC(dev, counter) ((dev)->stats.counter++)
#endif

#if !NETIO_KERNEL(5, 19)
/* Who may configure the interface may allow more: such packets are not tunnelled. */
static inline void netif_set_tso_max_size(struct net_device *dev, unsigned int size)
{
	dev->gso_max_size = size;
}
#endif

#if !NETIO_KERNEL(6, 1)
#define netif_napi_add(dev, napi, poll) \
	((netif_napi_add)(dev, napi, poll, NAPI_POLL_WEIGHT))
#endif

#if !NETIO_KERNEL(6, 3)
static inline void vm_flags_mod(struct vm_area_struct *vma, unsigned long set,
				unsigned long clear)
{
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
}

#endif

#if !NETIO_KERNEL(6, 10)
static inline struct net_device *alloc_netdev_dummy(int priv)
{
	struct net_device *dev = kzalloc(sizeof(*dev), GFP_KERNEL);

	if (dev)
		init_dummy_netdev(dev);
	return dev;
}

#define netio_free_dummy(dev) kfree(dev)
#else
#define netio_free_dummy(dev) free_netdev(dev)
#endif

static inline void netio_set_lltx(struct net_device *dev)
{
#if NETIO_KERNEL(6, 12)
	dev->lltx = true;
#else
	dev->features |= NETIF_F_LLTX;
#endif
}

#if !NETIO_KERNEL(6, 13)
static inline void hrtimer_setup(struct hrtimer *t,
				 enum hrtimer_restart (*f)(struct hrtimer *),
				 clockid_t clock, enum hrtimer_mode mode)
{
	hrtimer_init(t, clock, mode);
	t->function = f;
}
#endif

/* rtnl_link_ops.newlink has its arguments in one struct from 6.15 on. */
#if NETIO_KERNEL(6, 15)
#define NETIO_NEWLINK(name)						\
	static int name(struct net_device *dev,				\
			struct rtnl_newlink_params *params,		\
			struct netlink_ext_ack *extack)
#define NETIO_NEWLINK_NET	(params->src_net)
#define NETIO_NEWLINK_DATA	(params->data)
#else
#define NETIO_NEWLINK(name)						\
	static int name(struct net *src_net, struct net_device *dev,	\
			struct nlattr *tb[], struct nlattr *data[],	\
			struct netlink_ext_ack *extack)
#define NETIO_NEWLINK_NET	(src_net)
#define NETIO_NEWLINK_DATA	(data)
#endif

/* For those that include linux/virtio_config.h before this. */
#ifdef _LINUX_VIRTIO_CONFIG_H
#if !NETIO_KERNEL(5, 17)
static inline void virtio_reset_device(struct virtio_device *vdev)
{
	vdev->config->reset(vdev);
}
#endif

#if !NETIO_KERNEL(6, 11)
struct virtqueue_info {
	const char *name;
	vq_callback_t *callback;
};

static inline int netio_find_vqs(struct virtio_device *vdev, unsigned int n,
				 struct virtqueue *vqs[],
				 struct virtqueue_info info[],
				 struct irq_affinity *desc)
{
	const char **names = kcalloc(n, sizeof(*names), GFP_KERNEL);
	vq_callback_t **calls = kcalloc(n, sizeof(*calls), GFP_KERNEL);
	int err = -ENOMEM;
	unsigned int i;

	for (i = 0; names && calls && i < n; i++) {
		names[i] = info[i].name;
		calls[i] = info[i].callback;
	}
	if (names && calls)
		err = virtio_find_vqs(vdev, n, vqs, calls, names, desc);
	kfree(names);
	kfree(calls);
	return err;
}

#define virtio_find_vqs netio_find_vqs
#endif
#endif

#endif /* NETIO_COMPAT_H */
