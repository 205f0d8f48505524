// SPDX-License-Identifier: GPL-2.0
#include <linux/ctype.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/nsproxy.h>
#include <linux/poll.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <net/net_namespace.h>

#include "chardev.h"
#include "compat.h"
#include "iface.h"
#include "inq.h"
#include "knet.h"
#include "nic.h"
#include "outq.h"
#include "trace.h"

/* An open file. What it is attached to is set once. */
struct netio_file {
	struct net *net;	/* of the opener */
	struct mutex lock;	/* during ATTACH */
	struct netio_instance *inst;	/* release/acquire */
	u64 epoch;		/* of the ownership that it is part of */
	u32 lane;		/* that poll() is for */
};

static int netio_open(struct inode *inode, struct file *file)
{
	struct netio_file *f = kzalloc(sizeof(*f), GFP_KERNEL_ACCOUNT);

	if (!f)
		return -ENOMEM;
	f->net = get_net(current->nsproxy->net_ns);
	mutex_init(&f->lock);
	file->private_data = f;
	return nonseekable_open(inode, file);
}

static int netio_release(struct inode *inode, struct file *file)
{
	struct netio_file *f = file->private_data;
	struct netio_instance *inst = f->inst;

	if (inst) {
		mutex_lock(&inst->lock);
		if (inst->epoch == f->epoch && !--inst->owner_files) {
			trace_netio_owner(inst, NETIO_OWNER_GONE);
			put_pid(inst->owner);
			inst->owner = NULL;
			inst->area->owner_pid = 0;
		}
		mutex_unlock(&inst->lock);
		netio_instance_put(inst);
	}
	put_net(f->net);
	mutex_destroy(&f->lock);
	kfree(f);
	return 0;
}

/* The instance that the file owns, or an ERR_PTR: ENOTCONN, EOWNERDEAD. */
static struct netio_instance *netio_owned(struct netio_file *f)
{
	/* pairs with ATTACH: the rest of f is set */
	struct netio_instance *inst = smp_load_acquire(&f->inst);

	if (!inst)
		return ERR_PTR(-ENOTCONN);
	if (READ_ONCE(inst->epoch) != f->epoch || READ_ONCE(inst->dead))
		return ERR_PTR(-EOWNERDEAD);
	return inst;
}

/* Makes the calling process the owner. inst->lock and f->lock are held. */
static int netio_own(struct netio_file *f, struct netio_instance *inst, u32 flags)
{
	struct pid *self = task_tgid(current);
	enum netio_owner_change change;
	u32 i;

	if (inst->dead)
		return -ENOENT;
	if (flags & NETIO_ATTACH_JOIN) {
		if (inst->owner != self)
			return -EPERM;
		inst->owner_files++;
		f->epoch = inst->epoch;
		trace_netio_owner(inst, NETIO_OWNER_JOIN);
		return 0;
	}
	if (inst->owner && !(flags & NETIO_ATTACH_TAKEOVER))
		return -EBUSY;
	down_write(&inst->mem.maps);
	WRITE_ONCE(inst->epoch, inst->epoch + 1);
	netio_memory_revoke(&inst->mem);
	up_write(&inst->mem.maps);
	inst->area->epoch = inst->epoch;
	f->epoch = inst->epoch;
	/* The former owner learns of it by whatever it waits for or calls. */
	for (i = 0; i < inst->lane_count; i++)
		wake_up_interruptible_all(&inst->lanes[i].wait);
	change = inst->owner ? NETIO_OWNER_TAKEOVER : NETIO_OWNER_ATTACH;
	put_pid(inst->owner);
	inst->owner = get_pid(self);
	inst->owner_files = 1;
	trace_netio_owner(inst, change);
	inst->area->owner_pid = pid_vnr(self);
	netio_instance_hand_over(inst);
	return 0;
}

static int netio_attach_instance(struct file *file, struct netio_attach *a)
{
	struct netio_file *f = file->private_data;
	struct netio_choice choice = {
		.name = a->name, .lanes = a->lanes, .nbufs = a->nbuf_count,
		.ports = a->port_max, .parked_max = a->parked_max,
	};
	struct netio_instance *inst;
	int err;

	if (a->flags & (NETIO_ATTACH_EXISTING | NETIO_ATTACH_JOIN))
		inst = netio_instance_find(f->net, a->name);
	else
		inst = netio_instance_get(f->net, &choice);
	if (IS_ERR(inst))
		return PTR_ERR(inst);
	mutex_lock(&inst->lock);
	err = netio_own(f, inst, a->flags);
	if (!err) {
		a->lanes = inst->lane_count;
		a->nbuf_count = inst->nbuf_count;
		a->port_max = inst->port_max;
		a->parked_max = inst->parked_max;
		a->area_size = inst->mem.size;
		a->epoch = inst->epoch;
		/* Before the first map: they are revoked by it. */
		file->f_mapping = inst->mem.inode->i_mapping;
		/* pairs with netio_owned() */
		smp_store_release(&f->inst, inst);
	}
	mutex_unlock(&inst->lock);
	if (err)
		netio_instance_put(inst);
	return err;
}

static bool netio_name_ok(const char *name)
{
	size_t n = strnlen(name, NETIO_NAME_MAX), i;

	if (!n || n == NETIO_NAME_MAX)
		return false;
	for (i = 0; i < n; i++)
		if (!isgraph(name[i]) || name[i] == '/')
			return false;
	return true;
}

static long netio_ioctl_attach(struct file *file, void __user *arg)
{
	struct netio_file *f = file->private_data;
	const u32 known = NETIO_ATTACH_TAKEOVER | NETIO_ATTACH_EXISTING |
			  NETIO_ATTACH_JOIN;
	struct netio_attach a;
	int err = 0;

	if (copy_from_user(&a, arg, sizeof(a)))
		return -EFAULT;
	if (!ns_capable(f->net->user_ns, CAP_NET_ADMIN))
		return -EPERM;
	if (a.abi_version >> 16 != NETIO_ABI_MAJOR ||
	    (a.abi_version & 0xffff) > NETIO_ABI_MINOR)
		err = -EPROTO;
	else if (a.flags & ~known || !netio_name_ok(a.name))
		return -EINVAL;
	a.abi_version = NETIO_ABI_VERSION;
	if (!err) {
		mutex_lock(&f->lock);
		err = f->inst ? -EALREADY : netio_attach_instance(file, &a);
		mutex_unlock(&f->lock);
	}
	if (err && err != -EPROTO)
		return err;
	if (copy_to_user(arg, &a, sizeof(a)))
		return -EFAULT;
	return err;
}

static long netio_ioctl_kick(struct netio_file *f, unsigned long lane)
{
	struct netio_instance *inst = netio_owned(f);

	if (IS_ERR(inst))
		return PTR_ERR(inst);
	if (lane >= inst->lane_count)
		return -EINVAL;
	lane = array_index_nospec(lane, inst->lane_count);
	trace_netio_kick(&inst->lanes[lane], READ_ONCE(inst->lanes[lane].head));
	netio_outq_kick(&inst->lanes[lane]);
	return 0;
}

static long netio_ioctl_select_lane(struct netio_file *f, unsigned long lane)
{
	struct netio_instance *inst = netio_owned(f);

	if (IS_ERR(inst))
		return PTR_ERR(inst);
	if (lane >= inst->lane_count)
		return -EINVAL;
	WRITE_ONCE(f->lane, lane);
	return 0;
}

static long netio_ioctl_set_port(struct netio_instance *inst, void __user *arg)
{
	struct netio_set_port s;
	struct netio_iface *iface;
	long err = -ENOENT;

	if (copy_from_user(&s, arg, sizeof(s)))
		return -EFAULT;
	rtnl_lock();
	iface = netio_iface_get(inst, s.port);
	if (iface)
		err = netio_iface_set(iface, &s);
	rtnl_unlock();
	return err;
}

static long netio_ioctl_get_port(struct netio_instance *inst, void __user *arg)
{
	struct netio_iface *iface = NULL;
	struct netio_get_port *g;
	long err = -ENOENT;
	u32 port;

	if (get_user(port, (u32 __user *)arg))
		return -EFAULT;
	g = kzalloc(sizeof(*g), GFP_KERNEL);
	if (!g)
		return -ENOMEM;
	rtnl_lock();
	for (; port < inst->port_max && !iface; port++)
		iface = netio_iface_get(inst, port);
	if (iface) {
		g->port = iface->port;
		g->ifindex = iface->dev->ifindex;
		g->state = READ_ONCE(iface->sh->state); /* packets change CONGESTED */
		g->flags = iface->sh->flags;
		g->nbuf_quota = iface->sh->nbuf_quota;
		g->mark_bytes = iface->sh->mark_bytes;
		g->mtu = iface->sh->mtu;
		g->generation = iface->sh->generation;
		strscpy(g->ifname, iface->dev->name, sizeof(g->ifname));
		strscpy(g->label, iface->label, sizeof(g->label));
		err = 0;
	}
	rtnl_unlock();
	if (!err && copy_to_user(arg, g, sizeof(*g)))
		err = -EFAULT;
	kfree(g);
	return err;
}

static long netio_ioctl_del_port(struct netio_instance *inst, unsigned long port)
{
	struct netio_iface *iface = NULL;

	rtnl_lock();
	if (port < inst->port_max)
		iface = netio_iface_get(inst, port);
	if (iface && iface->ops)
		iface->ops->remove(iface);
	else if (iface)
		netio_knet_delete(iface, NULL);
	rtnl_unlock();
	return iface ? 0 : -ENOENT;
}

static long netio_ioctl_add_nic(struct netio_instance *inst, void __user *arg)
{
	struct netio_iface_choice choice;
	struct netio_add_nic *a;
	long err;

	if (!ns_capable(inst->net->user_ns, CAP_NET_ADMIN))
		return -EPERM;
	a = memdup_user(arg, sizeof(*a));
	if (IS_ERR(a))
		return PTR_ERR(a);
	err = -EINVAL;
	if (strnlen(a->label, sizeof(a->label)) == sizeof(a->label))
		goto out;
	choice = (struct netio_iface_choice){
		.port = a->port, .quota = a->nbuf_quota, .flags = a->flags,
		.label = a->label,
	};
	rtnl_lock();
	err = netio_nic_add(inst, a->ifindex, &choice, &a->port);
	rtnl_unlock();
	if (!err && put_user(a->port, (u32 __user *)arg))
		err = -EFAULT;
out:
	kfree(a);
	return err;
}

static long netio_ioctl_steer(struct netio_instance *inst, void __user *arg)
{
	struct netio_prefix *prefixes = NULL;
	struct netio_iface *iface = NULL;
	struct netio_steer_nic s;
	long err = -ENOENT;

	if (copy_from_user(&s, arg, sizeof(s)))
		return -EFAULT;
	if (s.reserved)
		return -EINVAL;
	if (s.count > NETIO_STEER_MAX)
		return -ENOSPC;
	if (s.count) {
		prefixes = vmemdup_user(u64_to_user_ptr(s.prefixes),
					s.count * sizeof(*prefixes));
		if (IS_ERR(prefixes))
			return PTR_ERR(prefixes);
	}
	rtnl_lock();
	iface = netio_iface_get(inst, s.port);
	if (iface)
		err = netio_nic_steer(iface, s.op, prefixes, s.count);
	rtnl_unlock();
	kvfree(prefixes);
	return err;
}

static long netio_ioctl_destroy(struct netio_instance *inst)
{
	long err;

	mutex_lock(&inst->lock);
	err = netio_instance_destroy(inst);
	mutex_unlock(&inst->lock);
	return err;
}

static long netio_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct netio_file *f = file->private_data;
	void __user *p = (void __user *)arg;
	struct netio_instance *inst;

	switch (cmd) {
	case NETIO_IOC_KICK:
		return netio_ioctl_kick(f, arg);
	case NETIO_IOC_ATTACH:
		return netio_ioctl_attach(file, p);
	case NETIO_IOC_SELECT_LANE:
		return netio_ioctl_select_lane(f, arg);
	case NETIO_IOC_SET_PORT:
	case NETIO_IOC_GET_PORT:
	case NETIO_IOC_DEL_PORT:
	case NETIO_IOC_ADD_NIC:
	case NETIO_IOC_STEER:
	case NETIO_IOC_DESTROY:
		break;
	default:
		return -ENOTTY;
	}
	inst = netio_owned(f);
	if (IS_ERR(inst))
		return PTR_ERR(inst);
	switch (cmd) {
	case NETIO_IOC_SET_PORT:
		return netio_ioctl_set_port(inst, p);
	case NETIO_IOC_GET_PORT:
		return netio_ioctl_get_port(inst, p);
	case NETIO_IOC_DEL_PORT:
		return netio_ioctl_del_port(inst, arg);
	case NETIO_IOC_ADD_NIC:
		return netio_ioctl_add_nic(inst, p);
	case NETIO_IOC_STEER:
		return netio_ioctl_steer(inst, p);
	default:
		return netio_ioctl_destroy(inst);
	}
}

static __poll_t netio_poll(struct file *file, poll_table *wait)
{
	struct netio_file *f = file->private_data;
	struct netio_instance *inst = netio_owned(f);
	struct netio_lane *lane;

	if (IS_ERR(inst))
		return EPOLLERR | (PTR_ERR(inst) == -EOWNERDEAD ? EPOLLHUP : 0);
	lane = &inst->lanes[READ_ONCE(f->lane)];
	poll_wait(file, &lane->wait, wait);
	smp_mb(); /* (I): on the queue before the look at the ring */
	if (READ_ONCE(inst->epoch) != f->epoch || READ_ONCE(inst->dead))
		return EPOLLERR | EPOLLHUP;
	local_bh_disable();
	netio_inq_events(lane);
	local_bh_enable();
	return netio_inq_pending(lane) ? EPOLLIN | EPOLLRDNORM : 0;
}

/* --- mmap ---------------------------------------------------------------- */

static void netio_vma_close(struct vm_area_struct *vma)
{
	netio_instance_put(vma->vm_private_data);
}

/* A map can be split, by a partial munmap() for one. */
static void netio_vma_open(struct vm_area_struct *vma)
{
	netio_instance_hold(vma->vm_private_data);
}

static vm_fault_t netio_vma_fault(struct vm_fault *vmf)
{
	struct netio_file *f = vmf->vma->vm_file->private_data;
	struct netio_instance *inst = vmf->vma->vm_private_data;
	vm_fault_t ret;

	down_read(&inst->mem.maps);
	ret = netio_memory_fault(&inst->mem, vmf, inst->epoch != f->epoch);
	up_read(&inst->mem.maps);
	return ret;
}

static const struct vm_operations_struct netio_vm_ops = {
	.fault = netio_vma_fault,
	.open = netio_vma_open,
	.close = netio_vma_close,
};

static int netio_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct netio_instance *inst = netio_owned(file->private_data);
	int err;

	if (IS_ERR(inst))
		return PTR_ERR(inst);
	err = netio_memory_mmap(&inst->mem, vma);
	if (err)
		return err;
	netio_instance_hold(inst);
	vma->vm_private_data = inst;
	vma->vm_ops = &netio_vm_ops;
	return 0;
}

static const struct file_operations netio_fops = {
	.owner = THIS_MODULE,
	.open = netio_open,
	.release = netio_release,
	.unlocked_ioctl = netio_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.poll = netio_poll,
	.mmap = netio_mmap,
};

/* For all: who may attach is decided by the network namespace, as with TUN. */
static struct miscdevice netio_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "netio",
	.fops = &netio_fops,
	.mode = 0666,
};

int netio_chardev_init(void)
{
	return misc_register(&netio_misc);
}

void netio_chardev_exit(void)
{
	misc_deregister(&netio_misc);
}
