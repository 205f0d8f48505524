// SPDX-License-Identifier: GPL-2.0
#include <linux/pid_namespace.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/seq_file_net.h>

#include "iface.h"
#include "nbuf.h"
#include "show.h"

/*
 * A reader holds no lock while it looks, but a reference to one instance: it
 * keeps nobody from anything, however slowly it reads.
 */
struct netio_show {
	struct seq_net_private net;
	struct netio_instance *inst;
};

/* --- instances ----------------------------------------------------------- */

static void *netio_instances_start(struct seq_file *s, loff_t *pos)
{
	struct netio_show *show = s->private;

	show->inst = *pos < U32_MAX ? netio_instance_at(seq_file_net(s), *pos) : NULL;
	return show->inst;
}

static void netio_show_stop(struct seq_file *s, void *v)
{
	struct netio_show *show = s->private;

	if (show->inst)
		netio_instance_put(show->inst);
	show->inst = NULL;
}

static void *netio_instances_next(struct seq_file *s, void *v, loff_t *pos)
{
	netio_show_stop(s, v);
	++*pos;
	return netio_instances_start(s, pos);
}

static void netio_show_lane(struct seq_file *s, struct netio_lane *lane)
{
	const struct netio_dlane *d = lane->d;

	seq_printf(s, "  lane %u: inq tail %u head %u, outq head %u tail %u, %s\n",
		   lane->number, READ_ONCE(d->inq_tail), READ_ONCE(lane->p->inq_head),
		   READ_ONCE(d->outq_head), READ_ONCE(lane->p->outq_tail),
		   READ_ONCE(lane->awake) ? "awake" : "asleep");
	seq_printf(s, "    rx_packets %llu tx_packets %llu rx_no_nbuf %llu tx_drop %llu\n",
		   READ_ONCE(d->rx_packets), READ_ONCE(d->tx_packets),
		   READ_ONCE(d->rx_no_nbuf), READ_ONCE(d->tx_drop));
	seq_printf(s, "    bad_entry %llu wakeups %llu reclaimed %llu copied %llu\n",
		   READ_ONCE(d->bad_entry), READ_ONCE(d->wakeups),
		   READ_ONCE(d->reclaimed), READ_ONCE(d->copied));
}

static int netio_instances_show(struct seq_file *s, void *v)
{
	struct pid_namespace *pids = proc_pid_ns(file_inode(s->file)->i_sb);
	struct netio_instance *inst = v;
	u64 epoch;
	pid_t pid;
	u32 i;

	mutex_lock(&inst->lock);
	epoch = inst->epoch;
	pid = pid_nr_ns(inst->owner, pids);
	mutex_unlock(&inst->lock);

	seq_printf(s, "%s: abi %u.%u, lanes %u, epoch %llu, owner %d\n", inst->name,
		   NETIO_ABI_MAJOR, NETIO_ABI_MINOR, inst->lane_count, epoch, pid);
	seq_printf(s, "  nbufs %u, free %u, process %u\n", inst->nbuf_count,
		   netio_nb_free_count(inst), netio_nb_process_count(inst));
	seq_printf(s, "  ports %u of %u, waiting %u\n", READ_ONCE(inst->port_count),
		   inst->port_max - 1, READ_ONCE(inst->waiting_count));
	seq_printf(s, "  parked %lld of %llu bytes\n",
		   (s64)atomic64_read(&inst->parked), inst->parked_max);
	for (i = 0; i < inst->lane_count; i++)
		netio_show_lane(s, &inst->lanes[i]);
	return 0;
}

static const struct seq_operations netio_instances_ops = {
	.start = netio_instances_start,
	.next = netio_instances_next,
	.stop = netio_show_stop,
	.show = netio_instances_show,
};

/* --- ports --------------------------------------------------------------- */

/* A position is the place of an instance, and a port number: 0 is the heading. */
#define NETIO_PORT_BITS	24

/* The first port from *pos on: sets *pos to it. */
static void *netio_ports_from(struct seq_file *s, loff_t *pos)
{
	struct netio_show *show = s->private;
	u32 port = *pos & (NETIO_PORTS_MAX - 1);
	loff_t place = *pos >> NETIO_PORT_BITS;

	for (;;) {
		if (!show->inst && place < U32_MAX)
			show->inst = netio_instance_at(seq_file_net(s), place);
		if (!show->inst)
			return NULL;
		for (; port < show->inst->port_max; port++) {
			*pos = place << NETIO_PORT_BITS | port;
			if (rcu_access_pointer(show->inst->ifaces[port]))
				return pos;
			if (!(port % 1024))
				cond_resched();
		}
		netio_show_stop(s, NULL);
		port = 1;
		*pos = ++place << NETIO_PORT_BITS | port;
	}
}

static void *netio_ports_start(struct seq_file *s, loff_t *pos)
{
	return *pos ? netio_ports_from(s, pos) : SEQ_START_TOKEN;
}

static void *netio_ports_next(struct seq_file *s, void *v, loff_t *pos)
{
	++*pos;
	return netio_ports_from(s, pos);
}

static int netio_ports_show(struct seq_file *s, void *v)
{
	struct netio_show *show = s->private;
	struct netio_iface *iface;
	const struct netio_port *p;
	u32 state;

	if (v == SEQ_START_TOKEN) {
		seq_puts(s, "instance port interface ifindex state nbufs quota parked q_packets q_bytes backlog rx_drop tx_drop\n");
		return 0;
	}
	rcu_read_lock_bh();
	iface = netio_iface_get(show->inst, *(loff_t *)v & (NETIO_PORTS_MAX - 1));
	if (!iface) { /* it has just ended */
		rcu_read_unlock_bh();
		return SEQ_SKIP;
	}
	p = iface->sh;
	state = READ_ONCE(p->state);
	seq_printf(s, "%s %u %s %d %s%s%s %u %u %u %u %u %u %llu %llu\n",
		   show->inst->name, iface->port, iface->dev->name,
		   iface->dev->ifindex, state & NETIO_PORT_S_UP ? "up" : "down",
		   state & NETIO_PORT_S_CONGESTED ? ",congested" : "",
		   state & NETIO_PORT_S_NIC ? ",nic" : "", READ_ONCE(p->nbufs),
		   READ_ONCE(p->nbuf_quota), READ_ONCE(p->parked_bytes),
		   READ_ONCE(p->q_packets), READ_ONCE(p->q_bytes),
		   skb_queue_len_lockless(&iface->backlog), READ_ONCE(p->rx_drop),
		   READ_ONCE(p->tx_drop));
	rcu_read_unlock_bh();
	return 0;
}

static const struct seq_operations netio_ports_ops = {
	.start = netio_ports_start,
	.next = netio_ports_next,
	.stop = netio_show_stop,
	.show = netio_ports_show,
};

/* --- files ----------------------------------------------------------------- */

int netio_show_init(struct net *net)
{
	struct proc_dir_entry *dir;

	if (!IS_ENABLED(CONFIG_PROC_FS))
		return 0;
	dir = proc_net_mkdir(net, "netio", net->proc_net);
	if (!dir)
		return -ENOMEM;
	if (proc_create_net("instances", 0444, dir, &netio_instances_ops,
			    sizeof(struct netio_show)) &&
	    proc_create_net("ports", 0444, dir, &netio_ports_ops,
			    sizeof(struct netio_show)))
		return 0;
	netio_show_exit(net);
	return -ENOMEM;
}

void netio_show_exit(struct net *net)
{
	if (IS_ENABLED(CONFIG_PROC_FS))
		remove_proc_subtree("netio", net->proc_net);
}
