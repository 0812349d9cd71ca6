/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Other people's XDP programs that are asked before ours at an interface: see chain.bpf.c. */
#ifndef __ABI_CHAIN_H__
#define __ABI_CHAIN_H__

#include "vmlinux.h"

#define CHAIN_PROGRAMS	 32  /* the kernel allows 33 tail calls, and the last is to ours */
#define CHAIN_NAME_LEN	 16  /* BPF_OBJ_NAME_LEN, with the final NUL */
#define CHAIN_SOURCE_LEN 224 /* with the final NUL; of a longer one, the end */

/* A program of a chain. They stand in the order in which they are asked. */
struct chain_program {
	__u32 on;	/* after which verdicts the next one is asked: bit 1 << XDP_* */
	__u32 priority; /* the lower, the earlier */
	__u32 counters; /* where its verdicts are counted */
	__u32 taken_in; /* 1: it was attached alone before, and is again once ours is detached */
	char name[CHAIN_NAME_LEN];
	char source[CHAIN_SOURCE_LEN];
};

/* Constants of each chain's entry program, in its .rodata. */
struct chain {
	__u32 count;
	__u32 unused;
	struct chain_program program[CHAIN_PROGRAMS];
};

/* XDP_ABORTED, DROP, PASS, TX and REDIRECT */
#define CHAIN_VERDICTS 5
/* Behind them: the program was not asked, because its tail call failed. */
#define CHAIN_SKIPPED 5

/* What became of packets. What is no verdict of XDP is counted as ABORTED. */
struct chain_counters {
	__u64 packets[CHAIN_VERDICTS + 1];
};

/*
 * Counters are kept while a program stays in the chain. A chain and the one that replaces it share
 * them, so there are enough for both. The first ones are those of our own program, which has
 * skipped only: the rest is in its outcomes.
 */
#define CHAIN_COUNTERS 65
#define CHAIN_OURS     0

_Static_assert(sizeof(struct chain_program) == 256, "chain_program");
_Static_assert(sizeof(struct chain) == 8200, "chain");
_Static_assert(sizeof(struct chain_counters) == 48, "chain_counters");

#endif
