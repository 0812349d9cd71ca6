/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Tellers do what the ledger's tracing programs do, and tell a capture besides which of its frames
 * were lost. The ledger's own programs call them, and only where frames were lost, so that a
 * capture costs the others nothing. Nobody pins these slots: the kernel clears them when the last
 * process is gone that has them open.
 */
#ifndef __TELLERS_H__
#define __TELLERS_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/ledger.h"
#include "telling.h"

/* All programs in one map belong to the same tracepoint. */
struct tellers {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, TELLERS);
	__type(key, __u32);
	__type(value, __u32);
};

struct tellers redirect_err_to SEC(".maps");
struct tellers devmap_xmit_to SEC(".maps");
struct tellers exception_to SEC(".maps");

const volatile __u32 yields = 0; /* 1: this kernel has programs call others */

/* Does not return where the frames have a teller. */
static __always_inline void call_teller(void *ctx, void *tellers, bool is_generic)
{
	struct telling *now = this_cpu_telling();

	if (yields && now)
		bpf_tail_call(ctx, tellers, is_generic ? now->generic_teller : now->teller);
}

static __always_inline void tell_of_last(__u16 reason, __u16 error)
{
}

static __always_inline void tell_of(__u32 position, __u16 reason, __u16 error)
{
}

#endif
