// SPDX-License-Identifier: GPL-2.0
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/mount.h>
#include <linux/pseudo_fs.h>
#include <linux/sched/signal.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "memory.h"

/*
 * nbufs are cut from chunks of 32 KiB where memory allows, so that neighbours
 * coalesce as fragments of one skb: 64 KiB in 2 KiB pieces are more than an skb
 * has fragments.
 */
#define NETIO_CHUNK_ORDER	(PAGE_SHIFT >= 15 ? 0 : 15 - PAGE_SHIFT)

/* Pages that a fault maps at a time: few faults, and none that takes long. */
#define NETIO_FAULT_PAGES	512UL

/*
 * An inode for each area, since maps are revoked by inode: that of the device
 * node is for all areas.
 */
#define NETIO_FS_MAGIC		0x4e54494f

static struct vfsmount *netio_mnt;

static int netio_fs_init(struct fs_context *fc)
{
	return init_pseudo(fc, NETIO_FS_MAGIC) ? 0 : -ENOMEM;
}

static struct file_system_type netio_fs = {
	.name = "netio",
	.init_fs_context = netio_fs_init,
	.kill_sb = kill_anon_super,
};

int netio_memory_init(void)
{
	netio_mnt = kern_mount(&netio_fs);
	return PTR_ERR_OR_ZERO(netio_mnt);
}

void netio_memory_exit(void)
{
	kern_unmount(netio_mnt);
}

int netio_memory_layout(struct netio_area *hdr, u32 lanes, u32 nbufs, u32 ports)
{
	u32 order;
	u64 off;

	if (lanes < 1 || lanes > NETIO_LANES_MAX ||
	    nbufs < 1 || nbufs > NETIO_NBUFS_MAX ||
	    ports < 2 || ports > NETIO_PORTS_MAX)
		return -EINVAL;
	order = order_base_2(nbufs + NETIO_EVENT_SLOTS);
	memset(hdr, 0, sizeof(*hdr));
	hdr->magic = NETIO_MAGIC;
	hdr->abi_version = NETIO_ABI_VERSION;
	hdr->device = NETIO_DEV_KERNEL;
	hdr->page_size = NETIO_PAGE_SIZE;
	hdr->features = NETIO_F_PARK | NETIO_F_GSO | NETIO_F_CSUM |
			NETIO_F_QOS | NETIO_F_WHOLE | NETIO_F_TUNNEL;
	hdr->lanes = lanes;
	hdr->inq_order = order;
	hdr->outq_order = order;
	hdr->nbuf_count = nbufs;
	hdr->nbuf_size = NETIO_NBUF_SIZE;
	hdr->nbuf_data = NETIO_NBUF_DATA;
	hdr->port_max = ports;
	off = NETIO_PAGE_SIZE;
	hdr->dlane_off = off;
	off += (u64)lanes * NETIO_PAGE_SIZE;
	hdr->inq_off = off;
	off += ALIGN((u64)lanes * 4 << order, NETIO_PAGE_SIZE);
	hdr->port_off = off;
	off += ALIGN((u64)ports * sizeof(struct netio_port), NETIO_PAGE_SIZE);
	hdr->plane_off = off;
	off += (u64)lanes * NETIO_PAGE_SIZE;
	hdr->outq_off = off;
	off += ALIGN((u64)lanes * 4 << order, NETIO_PAGE_SIZE);
	hdr->nbuf_off = off;
	off += ALIGN((u64)nbufs * NETIO_NBUF_SIZE, NETIO_PAGE_SIZE);
	hdr->area_size = off;
	return 0;
}

static int netio_alloc_pages(struct netio_memory *mem)
{
	const gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_ZERO;
	unsigned long first_nbuf = mem->nbuf_off >> PAGE_SHIFT, i = 0;

	while (i < mem->page_count) {
		unsigned int order = 0, j;
		struct page *page = NULL;

		if (i >= first_nbuf &&
		    mem->page_count - i >= 1UL << NETIO_CHUNK_ORDER)
			order = NETIO_CHUNK_ORDER;
		if (order)
			page = alloc_pages(gfp | __GFP_COMP | __GFP_NOWARN |
					   __GFP_NORETRY, order);
		if (!page) {
			order = 0;
			page = alloc_page(gfp);
		}
		if (!page)
			return -ENOMEM;
		/*
		 * Each page is counted for itself, so that the first page that is
		 * given back does not end the whole chunk.
		 */
		for (j = 0; j < 1U << order; j++) {
			if (j)
				get_page(page + j);
			mem->pages[i++] = page + j;
		}
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

int netio_memory_alloc(struct netio_memory *mem, const struct netio_area *hdr)
{
	struct inode *inode;
	int err;

	/* The ABI's pages are of 4 KiB; larger ones would have two writers. */
	BUILD_BUG_ON(PAGE_SIZE != NETIO_PAGE_SIZE);
	memset(mem, 0, sizeof(*mem));
	init_rwsem(&mem->maps);
	inode = alloc_anon_inode(netio_mnt->mnt_sb);
	if (IS_ERR(inode))
		return PTR_ERR(inode);
	mem->inode = inode;
	mem->size = hdr->area_size;
	mem->writable = hdr->plane_off;
	mem->nbuf_off = hdr->nbuf_off;
	mem->page_count = mem->size >> PAGE_SHIFT;
	mem->pages = kvcalloc(mem->page_count, sizeof(*mem->pages),
			      GFP_KERNEL_ACCOUNT);
	if (!mem->pages) {
		err = -ENOMEM;
		goto fail;
	}
	err = netio_alloc_pages(mem);
	if (err)
		goto fail;
	mem->control = vmap(mem->pages, mem->nbuf_off >> PAGE_SHIFT, VM_MAP,
			    PAGE_KERNEL);
	if (!mem->control) {
		err = -ENOMEM;
		goto fail;
	}
	memcpy(mem->control, hdr, sizeof(*hdr));
	return 0;
fail:
	netio_memory_free(mem);
	return err;
}

void netio_memory_free(struct netio_memory *mem)
{
	unsigned long i;

	if (mem->control)
		vunmap(mem->control);
	for (i = 0; mem->pages && i < mem->page_count && mem->pages[i]; i++) {
		put_page(mem->pages[i]);
		cond_resched();
	}
	kvfree(mem->pages);
	iput(mem->inode);
	memset(mem, 0, sizeof(*mem));
}

int netio_memory_mmap(struct netio_memory *mem, struct vm_area_struct *vma)
{
	unsigned long first = vma->vm_pgoff, n = vma_pages(vma);

	if (first > mem->page_count || n > mem->page_count - first ||
	    !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EACCES;
	if (first < mem->writable >> PAGE_SHIFT) {
		if (vma->vm_flags & VM_WRITE)
			return -EACCES;
		vm_flags_mod(vma, 0, VM_MAYWRITE);
	}
	/* VM_IO: no page is pinned, and used when the map has long been revoked. */
	vm_flags_mod(vma, VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY | VM_MIXEDMAP |
		     VM_IO, VM_MAYEXEC);
	return 0;
}

vm_fault_t netio_memory_fault(struct netio_memory *mem, struct vm_fault *vmf,
			      bool revoked)
{
	struct vm_area_struct *vma = vmf->vma;
	unsigned long first = (vmf->address - vma->vm_start) >> PAGE_SHIFT, i, end;

	lockdep_assert_held(&mem->maps);
	if (revoked) {
		vmf->page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
		return vmf->page ? 0 : VM_FAULT_OOM;
	}
	/* A fault on the packet path costs more than a packet: have few of them. */
	first = rounddown(first, NETIO_FAULT_PAGES);
	end = min(first + NETIO_FAULT_PAGES, vma_pages(vma));
	for (i = first; i < end; i++) {
		int err = vm_insert_page(vma, vma->vm_start + i * PAGE_SIZE,
					 mem->pages[vma->vm_pgoff + i]);

		/* EBUSY: another thread's fault has been quicker. */
		if (err && err != -EBUSY)
			return err == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
	}
	return VM_FAULT_NOPAGE;
}

void netio_memory_revoke(struct netio_memory *mem)
{
	lockdep_assert_held_write(&mem->maps);
	unmap_mapping_range(mem->inode->i_mapping, 0, 0, 1);
}
