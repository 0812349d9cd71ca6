/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the XDP program and the tracing programs share. */
#ifndef __LEDGER_MAPS_H__
#define __LEDGER_MAPS_H__

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LEDGER_DEVICES);
	__type(key, __u32);
	__type(value, struct ledger);
} ledgers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_FAILURES);
	__type(key, struct failure_key);
	__type(value, __u64);
} failures SEC(".maps");

/* The way-th of the places that a device can have, by its index. */
static __always_inline struct ledger *ledger_place(__u32 ifindex, __u32 way)
{
	__u32 place = (ifindex + way * (LEDGER_DEVICES / LEDGER_WAYS)) % LEDGER_DEVICES;

	return bpf_map_lookup_elem(&ledgers, &place);
}

static __always_inline struct ledger *ledger_of(__u32 ifindex)
{
	for (int way = 0; way < LEDGER_WAYS; way++) {
		struct ledger *ledger = ledger_place(ifindex, way);

		if (ledger && ledger->ifindex == ifindex)
			return ledger;
	}
	return NULL;
}

#endif
