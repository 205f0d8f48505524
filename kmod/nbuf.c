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
		memset32(per_cpu_ptr(inst->caches, cpu)->idx, NETIO_NB_NONE,
			 NETIO_CACHE_MAX);
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

/* From another processor's cache: what is there must be had. */
static u32 netio_nb_steal(struct netio_instance *inst)
{
	u32 idx, i;
	int cpu;

	for_each_possible_cpu(cpu) {
		struct netio_nb_cache *c = per_cpu_ptr(inst->caches, cpu);

		for (i = 0; i < NETIO_CACHE_MAX; i++) {
			if (READ_ONCE(c->idx[i]) == NETIO_NB_NONE)
				continue;
			idx = xchg(&c->idx[i], NETIO_NB_NONE);
			if (idx != NETIO_NB_NONE)
				return idx;
		}
	}
	return NETIO_NB_NONE;
}

/* Half of what it holds, for an empty cache. */
static void netio_nb_refill(struct netio_instance *inst, struct netio_nb_cache *c)
{
	spin_lock(&inst->free_lock);
	while (inst->free_count && c->count < NETIO_CACHE_MAX / 2)
		WRITE_ONCE(c->idx[c->count++], inst->free[--inst->free_count]);
	spin_unlock(&inst->free_lock);
}

u32 netio_nb_alloc_slow(struct netio_instance *inst)
{
	struct netio_nb_cache *c = this_cpu_ptr(inst->caches);
	u32 idx = NETIO_NB_NONE;

	if (READ_ONCE(inst->free_count)) {
		netio_nb_refill(inst, c);
		idx = netio_nb_pop(c);
	}
	return idx != NETIO_NB_NONE ? idx : netio_nb_steal(inst);
}

u64 netio_clock_tick(struct netio_nb_cache *c, unsigned long ticks)
{
	c->ticks = ticks;
	c->now = ktime_get_coarse_ns();
	return c->now;
}

u32 netio_nb_alloc_many(struct netio_instance *inst, u32 *idx, u32 n)
{
	u32 got;

	for (got = 0; got < n; got++) {
		idx[got] = netio_nb_alloc(inst);
		if (unlikely(idx[got] == NETIO_NB_NONE))
			break;
	}
	return got;
}

void netio_nb_free(struct netio_instance *inst, const u32 *idx, u32 n)
{
	struct netio_nb_cache *c = this_cpu_ptr(inst->caches);
	u32 k;

	while (n && c->count < NETIO_CACHE_MAX)
		WRITE_ONCE(c->idx[c->count++], idx[--n]);
	if (likely(!n))
		return;
	spin_lock(&inst->free_lock);
	while (n)
		inst->free[inst->free_count++] = idx[--n];
	while (c->count > NETIO_CACHE_MAX / 2) {
		k = xchg(&c->idx[--c->count], NETIO_NB_NONE);
		if (k != NETIO_NB_NONE)
			inst->free[inst->free_count++] = k;
	}
	spin_unlock(&inst->free_lock);
}

u32 netio_nb_free_count(struct netio_instance *inst)
{
	u32 n = READ_ONCE(inst->free_count), i;
	int cpu;

	for_each_possible_cpu(cpu)
		for (i = 0; i < NETIO_CACHE_MAX; i++)
			n += READ_ONCE(per_cpu_ptr(inst->caches, cpu)->idx[i]) !=
			     NETIO_NB_NONE;
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
