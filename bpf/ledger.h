/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * For the ledger: whose the frame is that the kernel takes next. The tracing
 * programs see what becomes of it on the same CPU, before this program's next
 * run where it fails at once, and in bulks, in their order, where the device refuses.
 */
#ifndef __LEDGER_H__
#define __LEDGER_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/backend.h"
#include "abi/ledger.h"
#include "interface.h"
#include "ledger_maps.h"

__u32 program_id = 0; /* of this program, once it is loaded */

/* What another program left there, nobody will tell of. */
static __always_inline void take_over(struct ledger *ledger)
{
	ledger->program = program_id;
	ledger->ingress = interface.ifindex;
	ledger->taken = 0;
	ledger->settled = 0;
}

static __always_inline void account(const struct backend *backend)
{
	struct sent sent = {.ifindex = backend->ifindex, .counter = backend->counter};
	struct ledger *ledger;

	if (interface.ledger != LEDGER_ON)
		return;
	ledger = ledger_here();
	if (!ledger)
		return;
	if (interface.mode == MODE_SKB) {
		ledger->only = sent.counter;
		ledger->only_program = program_id;
		return;
	}
	if (ledger->program != program_id)
		take_over(ledger);
	add_sent(ledger, sent);
}

#endif
