/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The flow cache: what the rules said about a flow a moment ago, so that most
 * packets need neither rules nor sets. An entry counts for as long as the rules are
 * of its generation. Each CPU has its own, and the program is never interrupted
 * by itself (softirqs are off), so nobody sees an entry half written.
 */
#ifndef __FLOW_CACHE_H__
#define __FLOW_CACHE_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/flow.h"
#include "maps.h"
#include "parse.h"

static __always_inline __u64 generation_now(void)
{
	__u32 zero = 0;
	volatile __u64 *now = bpf_map_lookup_elem(&generation, &zero);

	return now ? *now : 1;
}

/* Multiplies with xor-shifts between them; the upper bits are the well-mixed ones. */
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

/* word[0] has the family, so an IPv4 flow's last three words need no look. */
static __always_inline bool same_flow(const struct packet *pkt, const struct flow_key *key)
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

static __always_inline const struct backend *recall(const struct flow_set *set,
						    const struct packet *pkt, __u64 generation)
{
	if (generation & 1)
		return NULL;
	for (int i = 0; i < FLOW_WAYS; i++) {
		const struct flow *flow = &set->way[i];

		if (flow->generation == generation && same_flow(pkt, &flow->key))
			return &flow->backend;
	}
	return NULL;
}

/* Which flow of the set says nothing any more: an outdated one, if there is one. */
static __always_inline __u32 vacate(struct flow_set *set, __u64 generation, __u32 hash)
{
	__u32 way = hash / FLOW_SETS % FLOW_WAYS;

	if (set->way[0].generation != generation)
		way = 0;
	else if (set->way[1].generation != generation)
		way = 1;
	way &= 1;
	set->way[way].generation = 1;
	return way;
}

static __always_inline void remember(struct flow *flow, const struct flow_key *key,
				     __u64 generation)
{
	flow->generation = generation;
	flow->key = *key;
}

#endif
