/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the XDP program and the tracing programs share. */
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
	__type(value, __u64);
} failures SEC(".maps");

static __always_inline struct ledger *ledger_here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ledgers, &zero);
}

static __always_inline void add_sent(struct ledger *ledger, struct sent sent)
{
	ledger->sent[ledger->taken++ % LEDGER_FRAMES] = sent;
}

#endif
