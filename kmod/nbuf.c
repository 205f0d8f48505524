// SPDX-License-Identifier: GPL-2.0
#include <linux/percpu.h>
#include <linux/slab.h>

#include "iface.h"
#include "nbuf.h"

#define NETIO_CACHE_MAX	ARRAY_SIZE(((struct netio_nb_cache *)NULL)->idx)

int netio_nbs_init(struct netio_instance *inst)
{
	u32 i;
	int cpu;

	inst->nb = kvcalloc(inst->nbuf_count, sizeof(*inst->nb),
			    GFP_KERNEL_ACCOUNT);
	inst->free = kvmalloc_array(inst->nbuf_count, sizeof(*inst->free),
				    GFP_KERNEL_ACCOUNT);
	inst->caches = alloc_percpu(struct netio_nb_cache);
	if (!inst->nb || !inst->free || !inst->caches)
		return -ENOMEM;
	for_each_possible_cpu(cpu)
		spin_lock_init(&per_cpu_ptr(inst->caches, cpu)->lock);
	spin_lock_init(&inst->free_lock);
	for (i = 0; i < inst->nbuf_count; i++) {
		inst->nb[i].buf = netio_memory_nbuf(&inst->mem, i);
		inst->free[i] = inst->nbuf_count - 1 - i;
	}
	inst->free_count = inst->nbuf_count;
	return 0;
}

void netio_nbs_exit(struct netio_instance *inst)
{
	u32 i;

	for (i = 0; inst->nb && i < inst->nbuf_count; i++)
		kfree_skb(inst->nb[i].skb);
	kvfree(inst->nb);
	kvfree(inst->free);
	free_percpu(inst->caches);
}

/* Takes one from another processor's cache: what is there must be had. */
static int netio_nb_steal(struct netio_instance *inst)
{
	int cpu, idx = -1;

	for_each_possible_cpu(cpu) {
		struct netio_nb_cache *c = per_cpu_ptr(inst->caches, cpu);

		if (!READ_ONCE(c->count))
			continue;
		spin_lock(&c->lock);
		if (c->count)
			idx = c->idx[--c->count];
		spin_unlock(&c->lock);
		if (idx >= 0)
			break;
	}
	return idx;
}

/* Fills an empty cache, whose lock is held. */
static void netio_nb_refill(struct netio_instance *inst, struct netio_nb_cache *c)
{
	if (!READ_ONCE(inst->free_count))
		return;
	spin_lock(&inst->free_lock);
	while (inst->free_count && c->count < NETIO_CACHE_MAX / 2)
		c->idx[c->count++] = inst->free[--inst->free_count];
	spin_unlock(&inst->free_lock);
}

int netio_nb_alloc(struct netio_instance *inst)
{
	struct netio_nb_cache *c = this_cpu_ptr(inst->caches);
	int idx = -1;

	spin_lock(&c->lock);
	if (unlikely(!c->count))
		netio_nb_refill(inst, c);
	if (likely(c->count))
		idx = c->idx[--c->count];
	spin_unlock(&c->lock);
	if (unlikely(idx < 0))
		idx = netio_nb_steal(inst);
	return idx;
}

u32 netio_nb_alloc_many(struct netio_instance *inst, u32 *idx, u32 n)
{
	struct netio_nb_cache *c = this_cpu_ptr(inst->caches);
	u32 got = 0;
	int stolen;

	spin_lock(&c->lock);
	while (got < n) {
		if (!c->count)
			netio_nb_refill(inst, c);
		if (!c->count)
			break;
		idx[got++] = c->idx[--c->count];
	}
	spin_unlock(&c->lock);
	while (unlikely(got < n)) {
		stolen = netio_nb_steal(inst);
		if (stolen < 0)
			break;
		idx[got++] = stolen;
	}
	return got;
}

void netio_nb_free(struct netio_instance *inst, const u32 *idx, u32 n)
{
	struct netio_nb_cache *c = this_cpu_ptr(inst->caches);

	if (!n)
		return;
	spin_lock(&c->lock);
	while (n && c->count < NETIO_CACHE_MAX)
		c->idx[c->count++] = idx[--n];
	if (unlikely(n)) {
		spin_lock(&inst->free_lock);
		while (n)
			inst->free[inst->free_count++] = idx[--n];
		while (c->count > NETIO_CACHE_MAX / 2)
			inst->free[inst->free_count++] = c->idx[--c->count];
		spin_unlock(&inst->free_lock);
	}
	spin_unlock(&c->lock);
}

u32 netio_nb_free_count(struct netio_instance *inst)
{
	u32 n = READ_ONCE(inst->free_count);
	int cpu;

	for_each_possible_cpu(cpu)
		n += READ_ONCE(per_cpu_ptr(inst->caches, cpu)->count);
	return n;
}

u32 netio_nb_process_count(struct netio_instance *inst)
{
	u32 n = 0, i;

	for (i = 0; i < inst->nbuf_count; i++) {
		n += READ_ONCE(inst->nb[i].owner) == NETIO_NB_PROCESS;
		if (!(i % 1024))
			cond_resched();
	}
	return n;
}

struct sk_buff *netio_nb_detach(struct netio_instance *inst,
				struct netio_nb *nb)
{
	struct sk_buff *skb = nb->skb;

	nb->skb = NULL;
	netio_iface_uncharge(inst, nb->iport, nb->parked);
	nb->iport = 0;
	nb->parked = 0;
	nb->lost = 0;
	return skb;
}
