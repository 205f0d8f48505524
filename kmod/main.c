// SPDX-License-Identifier: GPL-2.0
/*
 * NetIO: packet forwarding by a user process, after A. McRae, "A User Level
 * Networking Infrastructure for Linux".
 *
 *	chardev   /dev/netio, by which processes attach
 *	instance  lanes, nbufs and ports that outlive their owner
 *	memory    the shared area            nbuf    who has which nbuf
 *	inq       entries for the process    outq    entries of the process
 *	packet    between skbs and nbufs     iface   what a port number stands for
 *	knet      the pseudo interface      nic     a network card as a port
 *	adapter   any other NIC             driver  NICs with a driver of ours
 *	steer     what of a NIC's is ours           show   /proc/net/netio
 *	trace	events/netio in tracefs
 */
#include <linux/module.h>
#include <linux/netio.h>
#include <linux/stringify.h>

#include "chardev.h"
#include "instance.h"
#include "knet.h"
#include "memory.h"
#include "outq.h"
#include "nic.h"

module_param_named(start_position, netio_start_position, uint, 0644);
MODULE_PARM_DESC(start_position, "ring position that new instances begin at, to test its wrap (default 0)");

module_param_named(deadman_us, netio_deadman_default, uint, 0644);
MODULE_PARM_DESC(deadman_us, "microseconds after which an OutQ is serviced without a kick, where the process does not choose (default 50)");

#define NETIO_ABI_STRING \
	__stringify(NETIO_ABI_MAJOR) "." __stringify(NETIO_ABI_MINOR)

/* What modinfo says of a file, /sys/module/netio/parameters/abi says of what runs. */
static int netio_abi_set(const char *val, const struct kernel_param *kp)
{
	return -EPERM;
}

static int netio_abi_get(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, NETIO_ABI_STRING "\n");
}

static const struct kernel_param_ops netio_abi_ops = {
	.set = netio_abi_set,
	.get = netio_abi_get,
};
module_param_cb(abi, &netio_abi_ops, NULL, 0444);
MODULE_PARM_DESC(abi, "version of the ABI of /dev/netio, read-only");

static int __init netio_init(void)
{
	int err;

	err = netio_memory_init();
	if (err)
		return err;
	err = netio_instances_init();
	if (err)
		goto memory;
	err = netio_knet_init();
	if (err)
		goto instances;
	err = netio_nics_init();
	if (err)
		goto knet;
	err = netio_chardev_init();
	if (err)
		goto nics;
	return 0;
nics:
	netio_nics_exit();
knet:
	netio_knet_exit();
instances:
	netio_instances_exit();
memory:
	netio_memory_exit();
	return err;
}

static void __exit netio_exit(void)
{
	netio_chardev_exit();
	netio_nics_exit();
	netio_knet_exit();
	netio_instances_exit();
	netio_memory_exit();
}

module_init(netio_init);
module_exit(netio_exit);

MODULE_DESCRIPTION("NetIO: shared packet memory for a forwarder in user space");
MODULE_AUTHOR("The NetIO authors");
MODULE_LICENSE("GPL");
MODULE_VERSION(NETIO_VERSION);
MODULE_INFO(netio_abi, NETIO_ABI_STRING);
