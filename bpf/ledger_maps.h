/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The ledger's maps: the XDP program and the tracing programs share them. */
#ifndef __LEDGER_MAPS_H__
#define __LEDGER_MAPS_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/ledger.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ledger);
} ledgers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_FAILURES);
	__type(key, struct failure_key);
	__type(value, __u64); /* frames */
} failures SEC(".maps");

static __always_inline struct ledger *this_cpu_ledger(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ledgers, &zero);
}

static __always_inline void append(struct ledger *ledger, struct ledger_entry entry)
{
	ledger->ring[ledger->appended++ % LEDGER_FRAMES] = entry;
}

#endif
