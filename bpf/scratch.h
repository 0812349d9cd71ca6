/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Memory of this CPU, for as long as its packet takes: what is too large for the stack. The program
 * is not interrupted by another run of it on the same CPU, because softirqs are off.
 */
#ifndef __SCRATCH_H__
#define __SCRATCH_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define SUM_CHUNK 512 /* bytes; bpf_csum_diff takes no more */

struct scratch {
	__be32 chunk[SUM_CHUNK / 4]; /* of a segment that is summed */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

static __always_inline struct scratch *this_cpu_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

#endif
