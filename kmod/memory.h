/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NETIO_MEMORY_H
#define NETIO_MEMORY_H

#include <linux/mm_types.h>
#include <linux/rwsem.h>
#include <linux/netio.h>

/*
 * The shared area of an instance (paper, section 5): pages, and one contiguous
 * mapping of all but the nbufs, which are used through the direct map.
 */
struct netio_memory {
	struct page **pages;
	unsigned long page_count;
	void *control;		/* [0, nbuf_off), contiguous */
	u64 size;		/* bytes of the whole */
	u64 writable;		/* offset from which on user space may write */
	u64 nbuf_off;
	struct inode *inode;	/* whose mapping has all maps of the area */
	struct rw_semaphore maps;	/* read: a fault; write: they are revoked */
};

int netio_memory_init(void);
void netio_memory_exit(void);

/* Sizes and offsets of an area into hdr; -EINVAL if a choice is out of range. */
int netio_memory_layout(struct netio_area *hdr, u32 lanes, u32 nbufs, u32 ports);

/* Zeroed memory for such an area, with a copy of hdr in place. Sleeps. */
int netio_memory_alloc(struct netio_memory *mem, const struct netio_area *hdr);

/* Pages that are still mapped or in an skb live on until those are gone. */
void netio_memory_free(struct netio_memory *mem);

/*
 * Makes vma a map of the part that it asks for, filled by faults. EACCES: write
 * access to what is read-only. The file's mapping is that of mem->inode.
 */
int netio_memory_mmap(struct netio_memory *mem, struct vm_area_struct *vma);

/*
 * A fault in such a map. What was revoked is memory of the process's own from
 * then on, a page at a time. mem->maps is held for reading.
 */
vm_fault_t netio_memory_fault(struct netio_memory *mem, struct vm_fault *vmf,
			      bool revoked);

/* Empties all maps. mem->maps is held for writing. */
void netio_memory_revoke(struct netio_memory *mem);

/* The nbuf of an index that is below nbuf_count. */
static inline void *netio_memory_nbuf(const struct netio_memory *mem, u32 i)
{
	u64 off = mem->nbuf_off + (u64)i * NETIO_NBUF_SIZE;

	return page_address(mem->pages[off >> PAGE_SHIFT]) + offset_in_page(off);
}

#endif /* NETIO_MEMORY_H */
