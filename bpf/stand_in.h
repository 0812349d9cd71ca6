/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A stand-in is this program once more, on the same maps, with a stage before it and one behind it.
 * It runs in the place of an interface's program while a process of the command looks at packets,
 * and no longer: it is in a slot of the interface's program, and the kernel clears the slot when
 * the last process is gone that has the slots open. They are never pinned. An empty slot costs an
 * instruction or two, and a packet meets the stand-in from its first stage to its last one, or none
 * of it.
 *
 * The entry file of a stand-in defines STAND_IN as the header that has these:
 *
 *   step_in        before all else: the verdict that ends the run, or GO_ON
 *   note_redirect  a frame was written into the ledger; for XDP alone
 *   look_back      what became of the packet: outcome, verdict, and the frame as it leaves
 *
 * Only where its constants say so (`shows`), it writes down what is decided, on slower paths.
 */
#ifndef __STAND_IN_H__
#define __STAND_IN_H__

#ifdef STAND_IN
#include STAND_IN
#else

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "hook.h"
#include "interface.h"

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} stand_in SEC(".maps");

/* Does not return where there is a stand-in. */
static __always_inline int step_in(struct hook_ctx *ctx)
{
	if (interface.yields)
		bpf_tail_call_static(ctx, &stand_in, 0);
	return GO_ON;
}

static __always_inline void look_back(struct hook_ctx *ctx, __u32 outcome, int verdict)
{
}

#endif
#endif
