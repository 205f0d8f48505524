/* SPDX-License-Identifier: GPL-2.0 */
/* /dev/netio: attach, map, wait, and housekeeping. See linux/netio.h. */
#ifndef NETIO_CHARDEV_H
#define NETIO_CHARDEV_H

int netio_chardev_init(void);
void netio_chardev_exit(void);

#endif /* NETIO_CHARDEV_H */
