// SPDX-License-Identifier: Apache-2.0
/*
 * A QEMU plugin that counts the instructions of a machine with one CPU, between
 * marks that a program there executes:
 *
 *	0f 1f 84 00 NN 00 45 4e		nopl 0x4e4500NN(%rax,%rax,1)
 *
 *	1, 2  a window begins, ends
 *	3, 4  a batch begins, ends
 *
 * Each window is a group of lines in the file of the argument out=FILE:
 *
 *	window USER KERNEL STRING	instructions; iterations of string instructions
 *	batches N MIN MEDIAN MAX	instructions of each
 *	at ADDRESS N			instructions there, with profile=on
 *	end
 *
 * A processor retires "rep movs" as one instruction, TCG executes one for each
 * iteration: those are in STRING alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu-plugin.h"

enum mark { WINDOW_BEGIN = 1, WINDOW_END, BATCH_BEGIN, BATCH_END };

struct counts {
	uint64_t user, kernel, string;
};

/* Instructions executed at one address. */
struct place {
	uint64_t address, count, before; /* before: at the window's begin */
};

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

static FILE *out;
static struct counts now, window;

static uint64_t batch;
static uint64_t *batches;
static size_t batch_count, batch_room;

/* Open addressing; a place stays where it is, the translated code adds to it. */
#define PLACES_ORDER 22
#define PLACES (1UL << PLACES_ORDER)
static struct place **places;
static size_t place_count;

static void fail(const char *why)
{
	fprintf(stderr, "count: %s\n", why);
	exit(1);
}

static struct place *place_at(uint64_t address)
{
	size_t slot = (address * 0x9e3779b97f4a7c15ULL) >> (64 - PLACES_ORDER);
	struct place *p;

	for (; places[slot]; slot = (slot + 1) & (PLACES - 1)) {
		if (places[slot]->address == address)
			return places[slot];
	}
	if (place_count++ > PLACES / 4 * 3)
		fail("too many addresses");
	p = calloc(1, sizeof(*p));
	if (!p)
		fail("no memory");
	p->address = address;
	return places[slot] = p;
}

static uint64_t instructions(void) { return now.user + now.kernel; }

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void batch_end(void)
{
	if (batch_count == batch_room) {
		batch_room = batch_room ? 2 * batch_room : 1024;
		batches = realloc(batches, batch_room * sizeof(*batches));
		if (!batches)
			fail("no memory");
	}
	batches[batch_count++] = instructions() - batch;
}

static void window_begin(void)
{
	window = now;
	batch_count = 0;
	for (size_t i = 0; places && i < PLACES; i++) {
		if (places[i])
			places[i]->before = places[i]->count;
	}
}

static void window_end(void)
{
	fprintf(out, "window %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
		now.user - window.user, now.kernel - window.kernel, now.string - window.string);
	if (batch_count) {
		qsort(batches, batch_count, sizeof(*batches), compare);
		fprintf(out, "batches %zu %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", batch_count,
			batches[0], batches[batch_count / 2], batches[batch_count - 1]);
	}
	for (size_t i = 0; places && i < PLACES; i++) {
		const struct place *p = places[i];

		if (p && p->count > p->before)
			fprintf(out, "at %" PRIx64 " %" PRIu64 "\n", p->address, p->count - p->before);
	}
	fprintf(out, "end\n");
	fflush(out);
}

static void on_mark(unsigned int cpu, void *data)
{
	(void)cpu;
	switch ((enum mark)(uintptr_t)data) {
	case WINDOW_BEGIN:
		window_begin();
		break;
	case WINDOW_END:
		window_end();
		break;
	case BATCH_BEGIN:
		batch = instructions();
		break;
	case BATCH_END:
		batch_end();
		break;
	}
}

/* A repeated movs, cmps, stos, lods or scas, perhaps with size prefixes. */
static bool is_string(const unsigned char *code, size_t size)
{
	size_t i = 0;

	if (size < 2 || (code[i] != 0xf3 && code[i] != 0xf2))
		return false;
	i++;
	while (i < size - 1 && (code[i] == 0x66 || (code[i] & 0xf0) == 0x40))
		i++;
	return (code[i] >= 0xa4 && code[i] <= 0xa7) || (code[i] >= 0xaa && code[i] <= 0xaf);
}

/* 0: it is no mark. */
static int mark_of(const unsigned char *code, size_t size)
{
	static const unsigned char first[] = {0x0f, 0x1f, 0x84, 0x00}, last[] = {0x00, 0x45, 0x4e};

	if (size != 8 || memcmp(code, first, sizeof(first)) || memcmp(code + 5, last, sizeof(last)))
		return 0;
	return code[4];
}

static void count(struct qemu_plugin_insn *insn, uint64_t *word)
{
	qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64, word, 1);
}

static void on_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
	size_t n = qemu_plugin_tb_n_insns(block);

	(void)id;
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(block, i);
		uint64_t address = qemu_plugin_insn_vaddr(insn);
		const unsigned char *code = qemu_plugin_insn_data(insn);
		size_t size = qemu_plugin_insn_size(insn);
		int mark = mark_of(code, size);

		if (is_string(code, size)) {
			count(insn, &now.string);
			continue;
		}
		/* The kernel has the upper half of the addresses. */
		count(insn, address >> 63 ? &now.kernel : &now.user);
		if (places)
			count(insn, &place_at(address)->count);
		if (mark)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark, QEMU_PLUGIN_CB_NO_REGS,
							       (void *)(uintptr_t)mark);
	}
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info,
					   int argc, char **argv)
{
	if (!info->system_emulation || info->system.smp_vcpus != 1)
		fail("it counts in machines with one CPU");
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "out=", 4))
			out = fopen(argv[i] + 4, "w");
		else if (!strcmp(argv[i], "profile=on"))
			places = calloc(PLACES, sizeof(struct place *));
	}
	if (!out)
		fail("cannot write out=FILE");
	qemu_plugin_register_vcpu_tb_trans_cb(id, on_translated);
	return 0;
}
