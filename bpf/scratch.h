/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Memory of this CPU, for as long as its packet takes: what is too large for the stack. The program
 * is not interrupted by another run of it on the same CPU, because softirqs are off.
 */
#ifndef __SCRATCH_H__
#define __SCRATCH_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/flow.h"
#include "abi/ruleset.h"

/* What a lookup compares. */
struct query {
	__u64 addrs[4];	    /* as in struct flow_key */
	struct place place; /* the packet's; inner_vlan 0: it has no inner tag */
	__u32 family;
	__u32 slot;
	/* Rules whose prefixes are shorter than this do not take the packet. 0 for most packets. 1
	 * where only a rule that names an address may take it. */
	__u32 least_dst_len;
	__u32 least_src_len;
};

/* What a found rule says. */
struct found {
	__u32 target;
	__u32 counter;
};

struct masked {
	__u64 addrs[4];
};

/* Where a search stands. */
struct search {
	struct query query;
	struct probe probe;
	struct place place;
	struct masked masked;
	__u64 hash_key;
	__u32 buckets;
	__u32 bucket_mask;
	__u32 guards;
	__u32 guard_mask;
	__u32 service; /* line of the next probe */
	__u32 index;   /* of the probe there */
	struct found found;
};

#define SUM_CHUNK 512 /* bytes; bpf_csum_diff takes no more */

struct scratch {
	struct action action;	  /* one that lies in no line */
	struct flow_key datagram; /* key in the maps of fragments */
	struct first_fragment first;
	struct search search;
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

static __always_inline struct search *scratch_search(void)
{
	struct scratch *mine = this_cpu_scratch();

	return mine ? &mine->search : NULL;
}

#endif
