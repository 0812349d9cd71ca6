/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From a rule to one of its backends. The command fills a weighted Maglev table
 * (Eisenbud et al., NSDI 2016) for each rule with more than one backend; the
 * program hashes the flow to a slot. The table has the same size for every
 * rule: with another size, a flow would move whenever the size changed.
 */
#ifndef __BALANCE_H__
#define __BALANCE_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/backend.h"
#include "abi/outcomes.h"
#include "abi/rule.h"
#include "flow_cache.h"
#include "maps.h"
#include "parse.h"
#include "rule_lookup.h"

static __always_inline __u32 set_size(__u32 set)
{
	return set & 0xff;
}

/* The slots lie in the chunks by turns. */
static __always_inline __u32 maglev_index(__u32 set, __u32 hash)
{
	__u32 slot = (__u64)hash * MAGLEV_SLOTS >> 32;
	struct set_key key = {.set = set, .index = slot % MAGLEV_CHUNKS};
	struct maglev_chunk *chunk = bpf_map_lookup_elem(&maglev, &key);

	return chunk ? chunk->slot[slot / MAGLEV_CHUNKS] : 0;
}

static __always_inline const struct backend *member(__u32 set, __u32 index)
{
	struct set_key key = {.set = set, .index = index};

	return bpf_map_lookup_elem(&members, &key);
}

/* Aims the redirect at a backend; false where its device is gone. */
static __always_inline bool aim(const struct backend *backend)
{
	return backend && bpf_redirect_map(&egress, backend->ifindex, 0) == XDP_REDIRECT;
}

struct search {
	__u32 set;
	__u32 index;
	bool found;
};

/* A step of bpf_loop: 1 ends it. */
static long aim_next(__u32 step, void *arg)
{
	struct search *search = arg;

	if (aim(member(search->set, search->index))) {
		search->found = true;
		return 1;
	}
	search->index = search->index + 1 < set_size(search->set) ? search->index + 1 : 0;
	return 0;
}

/* Any one of a set's backends that has a device, another one from flow to flow. */
static __always_inline const struct backend *other(__u32 set, __u32 hash)
{
	struct search search = {.set = set, .index = hash % set_size(set)};

	bpf_loop(set_size(set), aim_next, &search, 0);
	return search.found ? member(set, search.index) : NULL;
}

/* The flow's own backend by the rule. */
static __always_inline bool own(struct backend *backend, const struct rule *rule, __u32 hash)
{
	const struct backend *found;

	if (!rule->set) {
		__builtin_memcpy(backend, rule->inline_backend, sizeof(rule->inline_backend));
		return aim(backend);
	}
	found = member(rule->set, set_size(rule->set) > 1 ? maglev_index(rule->set, hash) : 0);
	if (!aim(found))
		return false;
	*backend = *found;
	return true;
}

#define CHOSEN 0x100 /* and the flow's place in its set; otherwise an outcome */

/*
 * What the rules say about a flow, put into its set, and the redirect aimed there. Only a flow's
 * own backend is remembered, so that the flow comes back to it. Neither static nor inlined, so that
 * the verifier walks it once, and not for every path through the parser: Linux 6.19 came near its
 * limit.
 */
__noinline __u32 choose(const struct flow_key *key, __u32 hash, __u64 generation)
{
	struct flow_set *set = flow_set(hash);
	const struct backend *found;
	const struct rule *rule;
	struct flow *flow;
	__u32 way;

	if (!key || !set) /* never; the verifier doesn't know */
		return OUTCOME_NO_DEVICE;
	rule = match(key);
	if (!rule)
		return OUTCOME_NO_RULE;
	way = vacate(set, generation, hash);
	flow = &set->way[way];
	if (own(&flow->backend, rule, hash)) {
		remember(flow, key, generation);
		return CHOSEN | way;
	}
	found = rule->set ? other(rule->set, hash) : NULL;
	if (!found)
		return OUTCOME_NO_DEVICE;
	flow->backend = *found;
	return CHOSEN | way;
}

/*
 * The packet's backend, at which the redirect is then aimed, before a byte of it has
 * changed. It lies in the flow cache.
 */
static __always_inline __u32 select_backend(const struct packet *pkt,
					    const struct backend **backend)
{
	__u64 generation = generation_now();
	__u32 hash = flow_hash(pkt);
	struct flow_set *set = flow_set(hash);
	struct flow_key key;
	__u32 chosen;

	if (!set) /* never; the verifier doesn't know */
		return OUTCOME_NO_DEVICE;
	*backend = recall(set, pkt, generation);
	if (aim(*backend))
		return 0;

	key = pkt->flow; /* a copy, so that the compiler keeps pkt in registers */
	chosen = choose(&key, hash, generation);
	if (!(chosen & CHOSEN))
		return chosen;
	*backend = &set->way[chosen & 1].backend;
	return 0;
}

#endif
