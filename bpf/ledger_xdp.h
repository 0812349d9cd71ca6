/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * XDP: writes each redirected frame into the ledger. The tracing programs read it on the same CPU:
 * before this program's next run where the kernel refuses the frame, and otherwise when the frame's
 * queue is handed to the device, queue by queue in the order of the frames.
 */
#ifndef __LEDGER_XDP_H__
#define __LEDGER_XDP_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/ledger.h"
#include "hook.h"
#include "interface.h"
#include "ledger_maps.h"

#ifdef STAND_IN
/* Tells a stand-in of a frame that was just written down. */
static __always_inline void note_redirect(void);
#endif

/*
 * Of the program that is attached, this one or the entry of a chain: the command writes it before
 * that is attached.
 */
__u32 program_id = 0;

/* As the kernel has it. */
static __always_inline __u32 own_id(void)
{
	return interface.stands_for ? interface.stands_for : program_id;
}

/* Entries of another program will never be reported as handed over: it has ended its poll. */
static __always_inline void discard_entries(struct ledger *ledger)
{
	ledger->program = own_id();
	ledger->ingress = interface.ifindex;
	ledger->appended = 0;
	ledger->retired = 0;
}

static __always_inline void put_redirect(struct ledger *ledger, __u32 ifindex, __u32 counter)
{
	struct ledger_entry entry = {.ifindex = ifindex, .counter = counter};

	if (interface.mode == MODE_SKB) {
		ledger->generic_counter = entry.counter;
		ledger->generic_program = own_id();
		return;
	}
	if (ledger->program != own_id())
		discard_entries(ledger);
	append(ledger, entry);
}

static __always_inline void record_redirect(struct hook_ctx *ctx, __u32 ifindex, __u32 counter)
{
	struct ledger *ledger = NULL;

	if (interface.ledger == LEDGER_ON)
		ledger = this_cpu_ledger();
	if (!ledger)
		return;
	put_redirect(ledger, ifindex, counter);
#ifdef STAND_IN
	note_redirect();
#endif
}

#endif
