/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * For the ledger: whose the frame is that the kernel takes next. The tracing
 * programs see what becomes of it on the same CPU, before this program's next
 * run where it fails at once, and in bulks, in their order, where the device refuses.
 */
#ifndef __ACCOUNT_H__
#define __ACCOUNT_H__

static __always_inline void account(const struct backend *backend)
{
	__u32 slot = backend->ifindex % LEDGER_DEVICES;
	struct ledger *ledger;

	if (interface.ledger != LEDGER_ON)
		return;
	ledger = bpf_map_lookup_elem(&ledgers, &slot);
	if (!ledger)
		return;
	if (ledger->ifindex != backend->ifindex) {
		ledger->ifindex = backend->ifindex;
		ledger->settled = ledger->taken;
	}
	ledger->last = backend->counter;
	if (interface.mode == MODE_SKB) /* which knows no bulks */
		return;
	ledger->last |= LEDGER_NATIVE;
	ledger->counter[ledger->taken++ % LEDGER_FRAMES] = backend->counter;
}

#endif
