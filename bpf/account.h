/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * For the ledger: whose the frame is that the kernel takes next. The tracing
 * programs see what becomes of it on the same CPU, before this program's next
 * run where it fails at once, and in bulks, in their order, where the device refuses.
 */
#ifndef __ACCOUNT_H__
#define __ACCOUNT_H__

/* The device's place; else one that nobody's frames wait in, or the last one if there is none. */
static __always_inline struct ledger *ledger_for(__u32 ifindex)
{
	struct ledger *ledger = ledger_of(ifindex);

	if (ledger)
		return ledger;
	for (int way = 0; way < LEDGER_WAYS; way++) {
		ledger = ledger_place(ifindex, way);
		if (ledger && ledger->taken == ledger->settled)
			break;
	}
	if (!ledger)
		return NULL;
	ledger->ifindex = ifindex;
	ledger->settled = ledger->taken;
	return ledger;
}

static __always_inline void account(const struct backend *backend)
{
	struct ledger *ledger;

	if (interface.ledger != LEDGER_ON)
		return;
	ledger = ledger_for(backend->ifindex);
	if (!ledger)
		return;
	ledger->counter[ledger->taken % LEDGER_FRAMES] = backend->counter;
	ledger->ingress = interface.ifindex;
	if (interface.mode == MODE_SKB) /* which knows no bulks */
		return;
	ledger->ingress |= LEDGER_NATIVE;
	ledger->taken++;
}

#endif
