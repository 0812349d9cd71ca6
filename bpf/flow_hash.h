/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The hash of a flow. Its upper half chooses a backend; the table of connections has its entries by
 * it.
 */
#ifndef __FLOW_HASH_H__
#define __FLOW_HASH_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/connection.h"
#include "abi/flow.h"
#include "abi/rule.h"

/* The lowest bits of a product depend on few bits of its factors, so the upper half is mixed into
 * them. */
static __always_inline __u64 mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0xbf58476d1ce4e5b9ull;
	return hash ^ hash >> 32;
}

static __always_inline bool is_ipv6_flow(const struct flow_key *flow)
{
	return (flow->word[0] >> 56 & ~FLOW_UNSEEN) == FAMILY_IPV6;
}

/* The hash under the rule sets' key. The upper bits are the well-mixed ones. */
static __always_inline __u64 hash_flow(__u64 key, const struct flow_key *flow, bool is_ipv6)
{
	__u64 hash = mix(key, flow->word[1]);

	if (is_ipv6) {
		for (int i = 2; i < 5; i++)
			hash = mix(hash, flow->word[i]);
	}
	return mix(hash, flow->word[0]);
}

/*
 * An entry's place: the lower half of the hash is its tag, and the highest four bits say where in a
 * bucket it is looked for first. The bits from the 40th on are not enough to say which bucket that
 * is: for ports in a row, some buckets would overflow while others are empty.
 */
static __always_inline __u32 tag_of(__u64 hash)
{
	return (__u32)hash | 1;
}

static __always_inline __u32 first_bucket(__u64 hash, __u32 mask)
{
	return (hash >> 40 ^ hash >> 5) & mask;
}

static __always_inline __u32 second_bucket(__u64 hash, __u32 mask)
{
	return mix(hash, 0x9e3779b97f4a7c15ull) >> 40 & mask;
}

static __always_inline __u32 first_way(__u64 hash)
{
	return hash >> 60;
}

#endif
