/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The numbers of captured frames that wait in the ledger: a capture and its tellers share them. */
#ifndef __CAPTURED_H__
#define __CAPTURED_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/ledger.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct captured);
} captured SEC(".maps");

static __always_inline struct captured *this_cpu_captured(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&captured, &zero);
}

#endif
