/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From a rule to one of its backends. The command fills a weighted Maglev table
 * (Eisenbud et al., NSDI 2016) for each rule with more than one backend; the
 * program hashes the flow to a slot of it. The table has the same size for every
 * rule, because a flow would move to another backend whenever the size changed.
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

/* Slots are dealt to the chunks in turn: slot 0 to chunk 0, slot 1 to chunk 1, and so on. */
static __always_inline __u32 maglev_index(__u32 set, __u32 hash)
{
	__u32 slot = (__u64)hash * MAGLEV_SLOTS >> 32;
	struct set_key key = {.set = set, .index = slot % MAGLEV_CHUNKS};
	struct maglev_chunk *chunk = bpf_map_lookup_elem(&maglev, &key);

	return chunk ? chunk->slot[slot / MAGLEV_CHUNKS] : 0;
}

static __always_inline const struct backend *set_member(__u32 set, __u32 index)
{
	struct set_key key = {.set = set, .index = index};

	return bpf_map_lookup_elem(&members, &key);
}

/*
 * Has the kernel redirect the frame to the backend's device once the program returns XDP_REDIRECT.
 * False where the device is gone. This comes before the first byte is written, so that the packet
 * can still pass as it is.
 */
static __always_inline bool prepare_redirect(const struct backend *backend)
{
	return backend && bpf_redirect_map(&egress, backend->ifindex, 0) == XDP_REDIRECT;
}

struct fallback_search {
	__u32 set;
	__u32 index;
	bool found;
};

/* A step of bpf_loop: 1 ends it. */
static long try_next_member(__u32 step, void *arg)
{
	struct fallback_search *search = arg;

	if (prepare_redirect(set_member(search->set, search->index))) {
		search->found = true;
		return 1;
	}
	search->index = search->index + 1 < set_size(search->set) ? search->index + 1 : 0;
	return 0;
}

/* A backend of the set that has a device. The search starts where the flow's hash says. */
static __always_inline const struct backend *select_fallback(__u32 set, __u32 hash)
{
	struct fallback_search search = {.set = set, .index = hash % set_size(set)};

	bpf_loop(set_size(set), try_next_member, &search, 0);
	return search.found ? set_member(set, search.index) : NULL;
}

/* The backend that the flow has by the rule; false where its device is gone. */
static __always_inline bool select_by_hash(struct backend *backend, const struct rule *rule,
					   __u32 hash)
{
	const struct backend *found;

	if (!rule->set) {
		__builtin_memcpy(backend, rule->inline_backend, sizeof(rule->inline_backend));
		return prepare_redirect(backend);
	}
	found = set_member(rule->set, set_size(rule->set) > 1 ? maglev_index(rule->set, hash) : 0);
	if (!prepare_redirect(found))
		return false;
	*backend = *found;
	return true;
}

#define IN_CACHE                                                                                   \
	0x100 /* added to a way of the flow's set; without it, the number is an outcome            \
	       */

/*
 * Asks the rules about a flow, writes the backend into the flow's set, and prepares the redirect.
 * Only the backend that the flow has by the rule becomes a valid entry: a fallback that stayed
 * would keep the flow when its own backend is back. Neither static nor inlined, so that the
 * verifier walks it once, and not for every path through the parser: Linux 6.19 came near its
 * limit.
 */
__noinline __u32 select_by_rules(const struct flow_key *key, __u32 hash, __u64 generation,
				 __u32 least_src_len)
{
	struct flow_set *set = flow_set(hash);
	const struct backend *found;
	const struct rule *rule;
	struct flow *flow;
	__u32 way;

	if (!key || !set) /* never; the verifier doesn't know */
		return OUTCOME_NO_DEVICE;
	rule = find_rule(key, least_src_len);
	if (!rule)
		return OUTCOME_NO_RULE;
	way = choose_way(set, generation, hash);
	flow = &set->way[way];
	if (select_by_hash(&flow->backend, rule, hash)) {
		publish_entry(flow, key, generation);
		return IN_CACHE | way;
	}
	found = rule->set ? select_fallback(rule->set, hash) : NULL;
	if (!found)
		return OUTCOME_NO_DEVICE;
	flow->backend = *found;
	return IN_CACHE | way;
}

/*
 * The backend of a packet, as it lies in the flow cache. The redirect to it is prepared, and no
 * byte of the packet has changed.
 */
static __always_inline __u32 select_backend(const struct packet *pkt,
					    const struct backend **backend)
{
	__u64 generation = current_generation();
	__u32 hash = flow_hash(pkt);
	struct flow_set *set = flow_set(hash);
	struct flow_key key;
	__u32 selected;

	if (!set) /* never; the verifier doesn't know */
		return OUTCOME_NO_DEVICE;
	if (pkt->not_unicast_dst) /* no rule names a destination */
		return OUTCOME_NO_RULE;
	*backend = cached_backend(set, pkt, generation);
	if (prepare_redirect(*backend))
		return 0;

	key = pkt->flow; /* a copy, so that the compiler keeps pkt in registers */
	selected = select_by_rules(&key, hash, generation, pkt->not_unicast_src);
	if (!(selected & IN_CACHE))
		return selected;
	*backend = &set->way[selected & 1].backend;
	return 0;
}

#endif
