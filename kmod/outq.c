// SPDX-License-Identifier: GPL-2.0
#include <linux/nospec.h>
#include <linux/sched/signal.h>

#include "compat.h"
#include "inq.h"
#include "nic.h"
#include "outq.h"
#include "packet.h"
#include "queue.h"
#include "trace.h"

/* What deadman_us is if the process does not say, and its bounds. */
u32 netio_deadman_default = 50;
#define NETIO_DEADMAN_MIN_US	10
#define NETIO_DEADMAN_MAX_US	100000
/* Entries per period of the deadman from which on polling beats kicks, and below
 * which it does so no longer.
 */
#define NETIO_BUSY		4
#define NETIO_CALM		1

/* One run of the service. */
struct netio_run {
	struct sk_buff *send;	/* a list by skb->next, to iface of netio_cb */
	struct sk_buff **send_end;
	bool marked;		/* some are for ports with a mark */
	u32 eport;		/* of the packet at hand */
	u32 freed_count;
	u32 sent;
	u32 drops;
	struct netio_iface *nic;	/* that has nbufs to send */
	struct sk_buff_head drop;
	u32 freed[NETIO_RUN_MAX + NETIO_CHAIN_MAX];
};

/* Where a packet of a run goes. RCU keeps it there. */
struct netio_cb {
	struct netio_iface *iface;
};

static struct netio_cb *netio_cb(const struct sk_buff *skb)
{
	BUILD_BUG_ON(sizeof(struct netio_cb) > sizeof(skb->cb));
	return (struct netio_cb *)skb->cb;
}

static u32 netio_outq_load(struct netio_lane *lane, u32 pos)
{
	/* (D): who sees an entry sees the nbuf behind it */
	return smp_load_acquire(&lane->outq[pos & lane->mask]);
}

static u32 netio_deadman_us(struct netio_lane *lane)
{
	u32 us = READ_ONCE(lane->p->deadman_us);

	return clamp_t(u32, us ?: READ_ONCE(netio_deadman_default), NETIO_DEADMAN_MIN_US,
		       NETIO_DEADMAN_MAX_US);
}

/* --- one entry, under out_lock ----------------------------------------- */

static void netio_bad(struct netio_lane *lane)
{
	WRITE_ONCE(lane->d->bad_entry, lane->d->bad_entry + 1);
	trace_netio_bad_entry(lane, lane->head);
}

/* Takes an nbuf of the process's; NULL: it is not its to give. */
static __always_inline struct netio_nb *netio_take(struct netio_instance *inst, u32 *idx)
{
	struct netio_nb *nb;

	if (unlikely(*idx >= inst->nbuf_count))
		return NULL;
	*idx = array_index_nospec(*idx, inst->nbuf_count);
	nb = &inst->nb[*idx];
	return netio_nb_take(nb) ? nb : NULL;
}

/* An nbuf that has a packet still, or what is left of its accounts. */
static noinline void netio_empty(struct netio_instance *inst,
				 struct netio_run *run, struct netio_nb *nb)
{
	struct sk_buff *skb = netio_nb_detach(inst, nb);

	if (skb)
		__skb_queue_tail(&run->drop, skb);
}

static __always_inline void netio_release_one(struct netio_instance *inst,
					      struct netio_run *run, u32 idx)
{
	struct netio_nb *nb = &inst->nb[idx];

	if (unlikely(nb->skb || nb->iport || nb->lost))
		netio_empty(inst, run, nb);
	run->freed[run->freed_count++] = idx;
}

static void netio_release(struct netio_lane *lane, struct netio_run *run,
			  const u32 *idx, u32 n)
{
	u32 i;

	for (i = 0; i < n; i++)
		netio_release_one(lane->inst, run, idx[i]);
}

/* What a run frees can be had by its next entries. */
static void netio_flush_freed(struct netio_lane *lane, struct netio_run *run)
{
	netio_nb_free(lane->inst, run->freed, run->freed_count);
	run->freed_count = 0;
}

/* The port that has been given packets last sends them once another has its turn. */
static void netio_flush_nic(struct netio_iface **nic, struct netio_iface *next)
{
	if (*nic && *nic != next)
		(*nic)->ops->flush(*nic);
	*nic = next;
}

/* TX of nbufs as they are: false: it has to be an skb. */
static bool netio_send_nbufs(struct netio_lane *lane, struct netio_run *run,
			     const u32 *idx, u32 n)
{
	struct netio_iface *iface;
	int sent = netio_nic_send(lane, idx, n, &iface);

	if (!sent)
		return false;
	if (sent > 0) {
		netio_flush_nic(&run->nic, iface);
		run->sent++;
		return true;
	}
	run->drops++;
	WRITE_ONCE(lane->d->tx_drop, lane->d->tx_drop + 1);
	netio_iface_tx_drop(iface, 0, NETIO_DROP_TX_REFUSED);
	netio_release(lane, run, idx, n);
	return true;
}

static void netio_drop(struct netio_lane *lane, struct netio_run *run, u32 len,
		       enum netio_drop_reason reason)
{
	run->drops++;
	WRITE_ONCE(lane->d->tx_drop, lane->d->tx_drop + 1);
	trace_netio_drop(lane->inst, run->eport, len, reason);
}

/* TX and CLONE of an skb to a port that is there. */
static __always_inline bool netio_send_skb(struct netio_instance *inst,
					   struct netio_lane *lane,
					   struct netio_run *run,
					   struct sk_buff *skb)
{
	struct netio_iface *iface = netio_iface_get(inst, run->eport);

	if (unlikely(!iface || !netif_running(iface->dev)))
		return false;
	if (unlikely(READ_ONCE(iface->sh->mark_bytes)))
		run->marked = true;
	netio_cb(skb)->iface = iface;
	skb->next = NULL;
	*run->send_end = skb;
	run->send_end = &skb->next;
	trace_netio_send(lane, run->eport, skb->len);
	run->sent++;
	return true;
}

/* Of a packet that cannot be sent: counts it, and frees what there is of it. */
static noinline void netio_not_sent(struct netio_lane *lane, struct netio_run *run,
				    const struct netio_nb *nb, struct sk_buff *skb)
{
	struct netio_iface *iface;

	if (PTR_ERR_OR_ZERO(skb) == -EINVAL && !nb->lost) {
		netio_bad(lane);
		return;
	}
	if (IS_ERR(skb)) {
		netio_drop(lane, run, 0, PTR_ERR(skb) == -EINVAL ?
						 NETIO_DROP_TX_LOST :
						 NETIO_DROP_TX_NO_MEMORY);
		return;
	}
	iface = netio_iface_get(lane->inst, run->eport);
	netio_drop(lane, run, skb->len, iface ? NETIO_DROP_TX_DOWN : NETIO_DROP_TX_NO_PORT);
	if (iface)
		atomic64_inc((atomic64_t *)&iface->sh->tx_drop);
	__skb_queue_tail(&run->drop, skb);
}

/* TX and CLONE of n nbufs that the device has taken. */
static __always_inline void netio_send(struct netio_lane *lane, struct netio_run *run,
				       const u32 *idx, u32 n, bool clone)
{
	struct netio_instance *inst = lane->inst;
	struct sk_buff *skb;
	u32 i;

	if (unlikely(READ_ONCE(inst->drivers)) && !clone &&
	    netio_send_nbufs(lane, run, idx, n))
		return;
	skb = netio_packet_send(lane, idx, n, clone, &run->eport);
	if (IS_ERR(skb) || unlikely(!netio_send_skb(inst, lane, run, skb)))
		netio_not_sent(lane, run, &inst->nb[idx[0]], skb);
	if (!clone) {
		netio_release(lane, run, idx, n);
		return;
	}
	for (i = 0; i < n; i++)
		netio_nb_give(&inst->nb[idx[i]]);
}

/* TX of what is as it came in, but for what the headers say: false if it is not that. */
static __always_inline bool netio_send_back(struct netio_instance *inst,
					    struct netio_lane *lane, struct netio_run *run,
					    struct netio_nb *nb, u32 idx)
{
	struct sk_buff *skb;

	if (unlikely(READ_ONCE(inst->drivers)))
		return false;
	skb = netio_packet_back(inst, nb, &run->eport);
	if (!skb)
		return false;
	if (unlikely(!netio_send_skb(inst, lane, run, skb)))
		netio_not_sent(lane, run, nb, skb);
	run->freed[run->freed_count++] = idx;
	return true;
}

static noinline void netio_send_one(struct netio_lane *lane, struct netio_run *run, u32 idx)
{
	netio_send(lane, run, &idx, 1, false);
}

static void netio_want(struct netio_lane *lane, u32 count)
{
	struct netio_instance *inst = lane->inst;
	u32 n, most = min_t(u32, count, NETIO_WANT_MAX);

	for (n = 0; n < most; n++) {
		u32 idx = netio_nb_alloc(inst);

		if (idx == NETIO_NB_NONE)
			break;
		netio_packet_clear(inst->nb[idx].buf);
		netio_inq_put_one(lane, NETIO_IN_GRANT, &inst->nb[idx], idx);
	}
	if (n < count)
		netio_event_denied(lane, count - n);
}

/*
 * TX or CLONE of a packet in n nbufs. One wrong nbuf spoils the packet, as does a
 * missing end; the others are handed in all the same, and a clone's stay the
 * process's.
 */
static noinline void netio_tx(struct netio_lane *lane, struct netio_run *run,
			      u32 *idx, u32 n, bool clone, bool whole)
{
	u32 taken = 0, i;

	for (i = 0; i < n; i++) {
		idx[taken] = idx[i];
		if (likely(netio_take(lane->inst, &idx[taken])))
			taken++;
	}
	if (likely(whole && taken == n)) {
		netio_send(lane, run, idx, n, clone);
		return;
	}
	netio_bad(lane);
	if (!clone) {
		netio_release(lane, run, idx, taken);
		return;
	}
	for (i = 0; i < taken; i++)
		netio_nb_give(&lane->inst->nb[idx[i]]);
}

static u32 netio_action(u32 e)
{
	return e >> NETIO_ENT_ACTION_SHIFT & NETIO_ENT_ACTION_MASK;
}

/*
 * The chain that begins with entry e at the head: takes it off the ring and
 * carries it out. It is taken when its end is there, and not before: 0 then,
 * else the number of entries.
 */
static u32 netio_chain(struct netio_lane *lane, struct netio_run *run, u32 e)
{
	u32 idx[NETIO_CHAIN_MAX], n = 0, action = netio_action(e);
	bool clone = action == NETIO_OUT_CLONE, whole = false;

	for (;;) {
		idx[n++] = e & NETIO_ENT_PARAM_MASK;
		whole = !(e & NETIO_ENT_MORE);
		if (whole || n == NETIO_CHAIN_MAX)
			break;
		e = netio_outq_load(lane, lane->head + n);
		if (!netio_present(lane, e, lane->head + n)) {
			lane->partial = n;
			return 0;
		}
		if (netio_action(e) != action)
			break;
	}
	WRITE_ONCE(lane->head, lane->head + n);
	/* Of one that is too long the rest is refused as it comes. */
	lane->chain_refused = !whole && n == NETIO_CHAIN_MAX;
	netio_tx(lane, run, idx, n, clone, whole);
	return n;
}

/* An entry that is no chain, and no TX. */
static noinline void netio_entry(struct netio_lane *lane, struct netio_run *run, u32 e)
{
	u32 param = e & NETIO_ENT_PARAM_MASK;

	switch (netio_action(e)) {
	case NETIO_OUT_CLONE:
		netio_tx(lane, run, &param, 1, true, true);
		break;
	case NETIO_OUT_FREE:
		if (netio_take(lane->inst, &param))
			netio_release(lane, run, &param, 1);
		else
			netio_bad(lane);
		break;
	case NETIO_OUT_WANT:
		netio_flush_freed(lane, run);
		netio_want(lane, param);
		break;
	case NETIO_OUT_FETCH:
		netio_flush_freed(lane, run);
		if (netio_take(lane->inst, &param))
			netio_packet_fetch(lane, param);
		else
			netio_bad(lane);
		break;
	default:
		netio_bad(lane);
	}
}

/* The rest of a chain that was too long. */
static void netio_refused(struct netio_lane *lane, struct netio_run *run, u32 e)
{
	u32 idx = e & NETIO_ENT_PARAM_MASK;

	lane->chain_refused = e & NETIO_ENT_MORE;
	if (netio_action(e) == NETIO_OUT_TX && netio_take(lane->inst, &idx))
		netio_release(lane, run, &idx, 1);
}

/* What is not a packet in one nbuf: the number of entries taken. */
static noinline u32 netio_other(struct netio_lane *lane, struct netio_run *run, u32 e)
{
	u32 action = netio_action(e), param = e & NETIO_ENT_PARAM_MASK;
	bool packet = action == NETIO_OUT_TX || action == NETIO_OUT_CLONE;

	if (unlikely(lane->chain_refused && !packet))
		lane->chain_refused = false;
	if (packet && e & NETIO_ENT_MORE && !lane->chain_refused)
		return netio_chain(lane, run, e);
	WRITE_ONCE(lane->head, lane->head + 1);
	if (unlikely(lane->chain_refused))
		netio_refused(lane, run, e);
	else if (action == NETIO_OUT_TX)
		netio_tx(lane, run, &param, 1, false, true);
	else
		netio_entry(lane, run, e);
	return 1;
}

/* The next packet or entry, if it is there: the number of entries taken. */
static __always_inline u32 netio_next(struct netio_instance *inst, struct netio_lane *lane,
				      struct netio_run *run)
{
	u32 head = lane->head, e = netio_outq_load(lane, head);
	const u32 what = NETIO_ENT_MORE | NETIO_ENT_ACTION_MASK << NETIO_ENT_ACTION_SHIFT;
	u32 idx = e & NETIO_ENT_PARAM_MASK;
	struct netio_nb *nb;

	if (!netio_present(lane, e, head))
		return 0;
	if (unlikely((e & what) != NETIO_OUT_TX << NETIO_ENT_ACTION_SHIFT ||
		     lane->chain_refused))
		return netio_other(lane, run, e);
	WRITE_ONCE(lane->head, head + 1);
	nb = netio_take(inst, &idx);
	if (unlikely(!nb))
		netio_bad(lane);
	else if (unlikely(!netio_send_back(inst, lane, run, nb, idx)))
		netio_send_one(lane, run, idx);
	return 1;
}

/* --- delivery, under out_lock alone ------------------------------------- */

/*
 * A knet's queue is what one run delivers: it is there for a moment, and counted
 * if somebody wants to be told of it.
 */
static noinline void netio_queue_pass(const struct sk_buff *skb)
{
	struct netio_iface *iface = NULL;
	int packets = 0, bytes = 0;

	for (; skb; skb = skb->next) {
		struct netio_iface *to = netio_cb(skb)->iface;

		if (to != iface && packets) {
			netio_queued(iface, packets, bytes);
			netio_queued(iface, -packets, -bytes);
			packets = 0;
			bytes = 0;
		}
		iface = to;
		/* A NIC counts for itself, until a packet has left it. */
		if (likely(!READ_ONCE(iface->sh->mark_bytes) || iface->ops))
			continue;
		packets++;
		bytes += skb->len;
	}
	if (packets) {
		netio_queued(iface, packets, bytes);
		netio_queued(iface, -packets, -bytes);
	}
}

/* Makes a packet look as if it had come in by dev. */
static void netio_arrive(struct sk_buff *skb, struct net_device *dev)
{
	skb_orphan(skb);
	skb_scrub_packet(skb, true);
	skb->priority = 0;
	skb_set_queue_mapping(skb, 0);
	skb_reset_redirect(skb);
	skb->dev = dev;
	skb->protocol = skb->data[0] >> 4 == 6 ? htons(ETH_P_IPV6) :
						 htons(ETH_P_IP);
	skb->pkt_type = PACKET_HOST;
	skb_reset_mac_header(skb);
	skb_reset_network_header(skb);
	skb_reset_mac_len(skb);
	dev_sw_netstats_rx_add(dev, skb->len);
}

static void netio_deliver(struct netio_run *run)
{
	struct list_head list, *last = &list;
	struct netio_iface *nic = NULL;
	struct sk_buff *skb, *next;

	if (unlikely(run->marked))
		netio_queue_pass(run->send);
	for (skb = run->send; skb; skb = next) {
		struct netio_iface *iface = netio_cb(skb)->iface;

		next = skb->next;
		skb->next = NULL;
		if (unlikely(iface->ops)) {
			netio_flush_nic(&nic, iface);
			iface->ops->transmit(iface, skb);
			continue;
		}
		netio_arrive(skb, iface->dev);
		skb->list.prev = last;
		last->next = &skb->list;
		last = &skb->list;
	}
	netio_flush_nic(&nic, NULL);
	list.prev = last;
	last->next = &list;
	if (last != &list)
		netif_receive_skb_list(&list);
}

/* --- the service ---------------------------------------------------------- */

/*
 * Carries out at most budget entries, or some more to the end of a chain, and
 * says how many there were. Softirqs are off.
 */
static u32 netio_outq_run(struct netio_lane *lane, u32 budget)
{
	struct netio_instance *inst = lane->inst;
	struct netio_run run;
	u32 n = 0, k;

	run.send = NULL;
	run.send_end = &run.send;
	run.marked = false;
	run.freed_count = 0;
	run.sent = 0;
	run.drops = 0;
	run.nic = NULL;
	__skb_queue_head_init(&run.drop);

	rcu_read_lock();
	/* Readers in softirqs would pass a writer for ever. */
	while (unlikely(atomic_read(&inst->walkers)))
		cpu_relax();
	spin_lock(&lane->out_lock);
	read_lock(&inst->walk_lock);
	lane->partial = 0;
	while (n < budget && (k = netio_next(inst, lane, &run)) != 0) {
		n += k;
		if (run.freed_count >= NETIO_RUN_MAX)
			netio_flush_freed(lane, &run);
	}
	WRITE_ONCE(lane->d->tx_packets, lane->d->tx_packets + run.sent);
	smp_store_release(&lane->d->outq_head, lane->head); /* (F) */
	lane->recent += n;
	read_unlock(&inst->walk_lock);

	netio_flush_nic(&run.nic, NULL);
	netio_nb_free(inst, run.freed, run.freed_count);
	/* Before another processor's run can deliver what comes behind it. */
	netio_deliver(&run);
	spin_unlock(&lane->out_lock);
	rcu_read_unlock();
	__skb_queue_purge(&run.drop);
	if (run.drops)
		netio_event_drops(lane, run.drops);
	if (n) {
		netio_backlogs(inst);
		netio_inq_events(lane);
		netio_inq_wake(lane);
	}
	return n;
}

/* How fast entries come, looked at once a tick. */
static void netio_outq_pace(struct netio_lane *lane)
{
	unsigned long now = jiffies, ticks = now - lane->recent_at;

	if (!ticks)
		return;
	lane->busy = (u64)lane->recent * netio_deadman_us(lane) >=
		     (u64)(lane->busy ? NETIO_CALM : NETIO_BUSY) *
			     jiffies_to_usecs(min(ticks, 10UL));
	lane->recent = 0;
	lane->recent_at = now;
}

/*
 * The OutQ is empty: leave it to the timer if entries come fast, else to the
 * next KICK. false: there is more.
 */
static bool netio_outq_rest(struct netio_lane *lane)
{
	bool more;

	spin_lock(&lane->out_lock);
	netio_outq_pace(lane);
	if (lane->busy) {
		WRITE_ONCE(lane->awake, true);
		spin_unlock(&lane->out_lock);
		if (!hrtimer_is_queued(&lane->deadman))
			hrtimer_start(&lane->deadman,
				      ns_to_ktime((u64)netio_deadman_us(lane) *
						  NSEC_PER_USEC),
				      HRTIMER_MODE_REL_SOFT);
		return true;
	}
	WRITE_ONCE(lane->awake, false);
	WRITE_ONCE(lane->d->sleep_seq, lane->d->sleep_seq + 1); /* (H) */
	smp_mb(); /* (I) */
	more = netio_outq_ready(lane);
	if (more)
		WRITE_ONCE(lane->awake, true);
	spin_unlock(&lane->out_lock);
	return !more;
}

static int netio_outq_poll(struct napi_struct *napi, int budget)
{
	struct netio_lane *lane = container_of(napi, struct netio_lane, napi);
	int n;

	if (!budget)
		return 0;
	n = netio_outq_run(lane, min(budget, NETIO_RUN_MAX));
	if (n >= budget)
		return budget; /* a chain may go beyond */
	if (napi_complete_done(napi, n) && !netio_outq_rest(lane))
		napi_schedule(napi);
	return n;
}

static enum hrtimer_restart netio_outq_timer(struct hrtimer *t)
{
	struct netio_lane *lane = container_of(t, struct netio_lane, deadman);

	napi_schedule(&lane->napi);
	return HRTIMER_NORESTART;
}

void netio_outq_kick(struct netio_lane *lane)
{
	u32 left = 1U << lane->inst->order, n;
	bool rest = false;

	while (!rest && left) {
		local_bh_disable();
		n = netio_outq_run(lane, min_t(u32, left, NETIO_RUN_MAX));
		left -= min(left, n);
		if (n < NETIO_RUN_MAX || left < NETIO_RUN_MAX)
			rest = netio_outq_rest(lane);
		local_bh_enable();
		/* Somebody may flip the head's toggle for ever. */
		if (signal_pending(current))
			break;
		cond_resched();
	}
	if (rest)
		return;
	/* More than a whole ring, or a signal: another goes on. */
	local_bh_disable();
	napi_schedule(&lane->napi);
	local_bh_enable();
}

void netio_outq_nudge(struct netio_lane *lane)
{
	local_bh_disable();
	if (netio_outq_ready(lane))
		napi_schedule(&lane->napi);
	local_bh_enable();
}

void netio_outq_drain(struct netio_lane *lane)
{
	u32 left = 1U << lane->inst->order, size = left, n, i;

	do {
		local_bh_disable();
		n = netio_outq_run(lane, min_t(u32, left, NETIO_RUN_MAX));
		local_bh_enable();
		left -= min(left, n);
		cond_resched();
	} while (n && left);

	spin_lock_bh(&lane->out_lock);
	lane->chain_refused = false;
	lane->partial = 0;
	/* No slot may look like an entry before it is written anew. */
	for (i = 0; i < size; i++) {
		u32 pos = lane->head + i;

		WRITE_ONCE(lane->outq[pos & (size - 1)],
			   NETIO_TOGGLE(pos, lane->inst->order) ^ NETIO_ENT_TOGGLE);
	}
	lane->d->outq_start = lane->head;
	lane->p->outq_tail = lane->head;
	lane->awake = false;
	lane->busy = false;
	/* The new owner has seen no sleep: its first entry wants a KICK. */
	if (!++lane->d->sleep_seq)
		lane->d->sleep_seq = 1;
	spin_unlock_bh(&lane->out_lock);
}

void netio_outq_init(struct netio_lane *lane)
{
	spin_lock_init(&lane->out_lock);
	netif_napi_add(lane->inst->dummy, &lane->napi, netio_outq_poll);
	napi_enable(&lane->napi);
	hrtimer_setup(&lane->deadman, netio_outq_timer, CLOCK_MONOTONIC,
		      HRTIMER_MODE_REL_SOFT);
}

void netio_outq_stop(struct netio_lane *lane)
{
	napi_disable(&lane->napi);
}

void netio_outq_exit(struct netio_lane *lane)
{
	hrtimer_cancel(&lane->deadman);
	netif_napi_del(&lane->napi);
}
