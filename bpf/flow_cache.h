/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The flow cache remembers the rules' decision for a flow, so that most packets need no lookup of
 * a rule or of a backend. An entry is valid for one generation of the rules. Each CPU has its own
 * cache, and softirqs are off while the program runs, so no other run sees an entry half written.
 */
#ifndef __FLOW_CACHE_H__
#define __FLOW_CACHE_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/flow.h"
#include "maps.h"
#include "parse.h"

static __always_inline __u64 current_generation(void)
{
	__u32 zero = 0;
	volatile __u64 *number = bpf_map_lookup_elem(&generation, &zero);

	return number ? *number : 1;
}

/* Multiplications with xor-shifts between them. The upper bits are the well-mixed ones. */
static __always_inline __u32 flow_hash(const struct packet *pkt)
{
	const __u64 *word = pkt->flow.word;
	__u64 hash = (word[1] ^ 0x9e3779b97f4a7c15ull) * 0xbf58476d1ce4e5b9ull;

	if (pkt->family == FAMILY_IPV6) {
		for (int i = 2; i < 5; i++)
			hash = (hash ^ hash >> 32 ^ word[i]) * 0xbf58476d1ce4e5b9ull;
	}
	hash ^= hash >> 32;
	hash = (hash ^ word[0]) * 0x94d049bb133111ebull;
	hash ^= hash >> 29;
	hash *= 0xbf58476d1ce4e5b9ull;
	return hash >> 32;
}

/* word[0] has the family, so the last three words are compared for IPv6 alone. */
static __always_inline bool is_same_flow(const struct packet *pkt, const struct flow_key *key)
{
	const __u64 *word = pkt->flow.word;

	if (word[0] != key->word[0] || word[1] != key->word[1])
		return false;
	return pkt->family == FAMILY_IPV4 ||
	       (word[2] == key->word[2] && word[3] == key->word[3] && word[4] == key->word[4]);
}

static __always_inline struct flow_set *flow_set(__u32 hash)
{
	__u32 index = hash % FLOW_SETS;

	return bpf_map_lookup_elem(&flows, &index);
}

static __always_inline const struct backend *
cached_backend(const struct flow_set *set, const struct packet *pkt, __u64 generation)
{
	if (generation & 1)
		return NULL;
	for (int i = 0; i < FLOW_WAYS; i++) {
		const struct flow *flow = &set->way[i];

		if (flow->generation == generation && is_same_flow(pkt, &flow->key))
			return &flow->backend;
	}
	return NULL;
}

/* The way of the set that the next flow takes: an outdated one, if there is one. It is emptied. */
static __always_inline __u32 choose_way(struct flow_set *set, __u64 generation, __u32 hash)
{
	__u32 way = hash / FLOW_SETS % FLOW_WAYS;

	if (set->way[0].generation != generation)
		way = 0;
	else if (set->way[1].generation != generation)
		way = 1;
	way &= 1; /* the verifier has lost that bound */
	set->way[way].generation = 1;
	return way;
}

/* Makes the entry, whose backend is written, valid. */
static __always_inline void publish_entry(struct flow *flow, const struct flow_key *key,
					  __u64 generation)
{
	flow->generation = generation;
	flow->key = *key;
}

#endif
