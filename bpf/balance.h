/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From a rule to one of its backends. The command fills a weighted Maglev table
 * (Eisenbud et al., NSDI 2016) for each rule with more than one backend; the
 * program hashes the flow to a slot. The table has the same size for every
 * rule: with another size, a flow would move whenever the size changed.
 */
#ifndef __BALANCE_H__
#define __BALANCE_H__

static __always_inline __u32 maglev_index(__u32 set, __u32 hash)
{
	__u32 slot = (__u64)hash * MAGLEV_SLOTS >> 32;
	struct set_key key = {.set = set, .index = slot / MAGLEV_CHUNK};
	struct maglev_chunk *chunk = bpf_map_lookup_elem(&maglev, &key);

	return chunk ? chunk->slot[slot % MAGLEV_CHUNK] : 0;
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
	__u32 count;
	__u32 index;
	bool found;
};

/* A step of bpf_loop: 1 ends it. */
static long aim_next(__u32 step, void *arg)
{
	struct search *search = arg;

	(void)step;
	if (aim(member(search->set, search->index))) {
		search->found = true;
		return 1;
	}
	search->index = search->index + 1 < search->count ? search->index + 1 : 0;
	return 0;
}

/* Any one of a rule's backends that has a device, another one from flow to flow. */
static __always_inline const struct backend *other(const struct rule *rule, __u32 hash)
{
	struct search search = {
		.set = rule->set,
		.count = rule->backends,
		.index = hash % rule->backends,
	};

	bpf_loop(search.count, aim_next, &search, 0);
	return search.found ? member(search.set, search.index) : NULL;
}

/* The flow's own backend by the rule. */
static __always_inline const struct backend *own(const struct rule *rule, __u32 hash)
{
	if (rule->backends > 1)
		return member(rule->set, maglev_index(rule->set, hash));
	return &rule->only;
}

/*
 * The packet's backend, at which the redirect is then aimed, before a byte of it has
 * changed. Only a flow's own backend is remembered, so that it comes back to it.
 */
static __always_inline __u32 select_backend(const struct packet *pkt,
					    const struct backend **backend)
{
	__u64 generation = generation_now();
	__u32 hash = flow_hash(pkt);
	struct flow_set *set = generation & 1 ? NULL : flow_set(hash);
	const struct rule *rule;

	if (set) {
		*backend = recall(set, pkt, generation);
		if (aim(*backend))
			return 0;
	}
	rule = match(pkt);
	if (!rule)
		return OUTCOME_NO_RULE;

	*backend = own(rule, hash);
	if (aim(*backend)) {
		if (set)
			remember(set, pkt, *backend, generation, hash);
		return 0;
	}
	if (rule->backends > 1)
		*backend = other(rule, hash);
	else
		*backend = NULL;
	return *backend ? 0 : OUTCOME_NO_DEVICE;
}

#endif
