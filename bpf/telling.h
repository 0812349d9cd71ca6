/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which captures are to be told: the ledger's programs and all captures share this map. */
#ifndef __TELLING_H__
#define __TELLING_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/ledger.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct telling);
} telling SEC(".maps");

static __always_inline struct telling *this_cpu_telling(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&telling, &zero);
}

#endif
