/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Finds the most specific rule that takes a packet. The service of its protocol and port has the
 * probes that rules can have there, the most specific first. Each one is a lookup in one hash table
 * of all rules; a word of guard bits tells first, mostly, where that would be in vain.
 */
#ifndef __RULE_LOOKUP_H__
#define __RULE_LOOKUP_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi/flow.h"
#include "abi/ruleset.h"
#include "flow_hash.h"
#include "heap.h"
#include "maps.h"
#include "scratch.h"

/* The network mask of a prefix length of IPv4, 0 to 32. */
static __always_inline __u64 mask4(__u32 len)
{
	return bpf_htonl(~0ull << ((32 - len) & 63));
}

/* The mask of half an IPv6 address, for prefix lengths counted from its first bit, 0 to 64. */
static __always_inline __u64 mask6(__u32 len)
{
	return len == 0 ? 0 : bpf_cpu_to_be64(~0ull << ((64 - len) & 63));
}

static __always_inline __u32 at_most(__u32 len, __u32 most)
{
	return len < most ? len : most;
}

static __always_inline void mask_addresses(struct masked *masked, const struct query *query,
					   const struct probe *probe)
{
	__u32 src = probe->src_len, dst = probe->dst_len;

	if (query->family == FAMILY_IPV4) {
		masked->addrs[0] = query->addrs[0] & (mask4(src) | mask4(dst) << 32);
		return;
	}
	masked->addrs[0] = query->addrs[0] & mask6(at_most(src, 64));
	masked->addrs[1] = query->addrs[1] & mask6(src < 64 ? 0 : src - 64);
	masked->addrs[2] = query->addrs[2] & mask6(at_most(dst, 64));
	masked->addrs[3] = query->addrs[3] & mask6(dst < 64 ? 0 : dst - 64);
}

static __always_inline struct place masked_place(const struct query *query,
						 const struct probe *probe)
{
	struct place place = {.vlan = query->place.vlan};

	if (probe->flags & PROBE_IN)
		place.ifindex = query->place.ifindex;
	if (probe->flags & PROBE_INNER_VLAN)
		place.inner_vlan = query->place.inner_vlan;
	return place;
}

/* Eight bytes whose address is a multiple of eight: otherwise the compiler would read each alone.
 */
static __always_inline __u64 word_of(const void *eight_bytes)
{
	__u64 word;

	__builtin_memcpy(&word, __builtin_assume_aligned(eight_bytes, 8), sizeof(word));
	return word;
}

static __always_inline __u64 rule_hash(__u64 key, const struct probe *probe,
				       const struct place *place, const struct masked *masked,
				       __u32 family)
{
	__u64 hash = mix(key, masked->addrs[0]);

	if (family == FAMILY_IPV6) {
		hash = mix(hash, masked->addrs[1]);
		hash = mix(hash, masked->addrs[2]);
		hash = mix(hash, masked->addrs[3]);
	}
	hash = mix(hash, word_of(probe));
	hash = mix(hash, word_of(place));
	return mix(hash, family);
}

/* 1 where all guard bits of a rule are set; 0: there is no such rule. Without a branch on what is
 * read, so that the guards of several probes are read at the same time. */
static __always_inline __u32 is_guarded(const struct search *search, __u64 hash)
{
	__u32 number = hash >> 24 & search->guard_mask;
	struct line *line = line_at(search->guards + number / 8);
	__u64 bits =
		1ull << (hash >> 44 & 63) | 1ull << (hash >> 50 & 63) | 1ull << (hash >> 56 & 63);
	__u64 missing, negative;

	if (!line)
		return 0;
	missing = bits & ~line->word[number % 8];
	negative = -missing;
	barrier_var(negative);
	return 1 ^ (missing | negative) >> 63;
}

/* Whether the rule of this number is the one that is looked for. If so, it is found. */
static __always_inline bool is_rule(struct search *search, __u32 number)
{
	void *line = line_at(number / 2);

	if (!line)
		return false;
	if (search->query.family == FAMILY_IPV4) {
		struct rule4 *rule = line + number % 2 * sizeof(struct rule4);

		if (word_of(&rule->probe) != word_of(&search->probe) ||
		    word_of(&rule->place) != word_of(&search->place) ||
		    word_of(&rule->src) != search->masked.addrs[0])
			return false;
		search->found.target = rule->target;
		search->found.counter = rule->counter;
	} else {
		struct rule6 *rule = line;

		if (word_of(&rule->probe) != word_of(&search->probe) ||
		    word_of(&rule->place) != word_of(&search->place) ||
		    word_of(rule->src) != search->masked.addrs[0] ||
		    word_of(rule->src + 2) != search->masked.addrs[1] ||
		    word_of(rule->dst) != search->masked.addrs[2] ||
		    word_of(rule->dst + 2) != search->masked.addrs[3])
			return false;
		search->found.target = rule->target;
		search->found.counter = rule->counter;
	}
	return true;
}

/* Whether rules with a probe may take the packet at all. */
static __always_inline bool is_open(const struct search *search, const struct probe *probe)
{
	if (probe->dst_len < search->query.least_dst_len ||
	    probe->src_len < search->query.least_src_len)
		return false;
	return !(probe->flags & PROBE_INNER_VLAN) || search->query.place.inner_vlan;
}

/* Writes down the rule of a probe that would take the packet. Its hash. */
static __always_inline __u64 look_for(struct search *search, const struct probe *probe)
{
	search->probe = *probe;
	mask_addresses(&search->masked, &search->query, probe);
	search->place = masked_place(&search->query, probe);
	return rule_hash(search->hash_key, probe, &search->place, &search->masked,
			 search->query.family);
}

/*
 * Looks for the rule of one of a line's probes in the bucket that its hash says, or so many buckets
 * later. 1: found; 0: not there, and not in a later one; 2: perhaps in the next one. Neither static
 * nor inlined, so that the verifier walks it once. The search lies in scratch memory, because the
 * verifier allows 512 bytes of stack for a whole chain of calls.
 */
__noinline __u32 search_bucket(__u32 probe, __u32 step)
{
	struct search *search = scratch_search();
	struct service *service;
	struct bucket *bucket;
	__u64 hash;

	if (!search || probe >= LINE_PROBES) /* never; the verifier doesn't know */
		return 0;
	service = line_at(search->service);
	if (!service)
		return 0;
	hash = look_for(search, &service->probe[probe]);
	bucket = line_at(search->buckets + ((hash + step) & search->bucket_mask));
	if (!bucket)
		return 0;
#pragma unroll
	for (int i = 0; i < BUCKET_ENTRIES; i++) {
		__u32 tag = *(volatile __u32 *)&bucket->entry[i].tag;

		if ((tag ^ hash >> 32) & ~(__u32)TAG_SLOTS || !(tag >> search->query.slot & 1))
			continue;
		if (is_rule(search, bucket->entry[i].rule))
			return 1;
	}
	return bucket->chained ? 2 : 0;
}

static __always_inline bool find_in_table(__u32 probe)
{
	__u32 result = 2;

	for (__u32 step = 0; step < MAX_CHAIN && result == 2; step++)
		result = search_bucket(probe, step);
	return result == 1;
}

/* For which probes of a line there may be a rule that takes the packet: a bit for each. In memory,
 * as the stack has no room for more. */
static __always_inline void ask_guards(struct search *search, const struct service *service)
{
	search->guarded = 0;
	for (__u32 i = 0; i < LINE_PROBES && i < service->count; i++) {
		if (is_open(search, &service->probe[i]))
			search->guarded |= is_guarded(search, look_for(search, &service->probe[i]))
					   << i;
	}
}

/*
 * Tries the service's next line of probes. 1: a rule is found; 2: go on; 0: there is no further
 * line. Neither static nor inlined, for the same reason.
 */
__noinline __u32 try_line(void)
{
	struct search *search = scratch_search();
	struct service *service;

	if (!search) /* never; the verifier doesn't know */
		return 0;
	service = line_at(search->service);
	if (!service)
		return 0;
	ask_guards(search, service);
	for (__u32 i = 0; i < LINE_PROBES; i++) {
		/* From memory, or the verifier would walk each set of bits. */
		if (*(volatile __u32 *)&search->guarded >> i & 1 && find_in_table(i))
			return 1;
	}
	search->service = service->next;
	return service->next ? 2 : 0;
}

/*
 * Tries the probes of the search in scratch memory. 1: a rule is found. Neither static nor inlined,
 * for the same reason.
 */
__noinline __u32 try_probes(void)
{
	__u32 result = 2;

	for (int i = 0; i < MAX_PORT_PROBES / LINE_PROBES + 1 && result == 2; i++)
		result = try_line();
	return result;
}

/* The rule that takes a packet by the probes of a service. NULL where none does. */
static __always_inline const struct found *find_rule(const struct query *query, __u32 service)
{
	struct search *search = scratch_search();
	__u32 slot = query->slot & 1;
	struct ruleset *ruleset = bpf_map_lookup_elem(&rulesets, &slot);

	if (!search || !ruleset) /* never; the verifier doesn't know */
		return NULL;
	search->query = *query;
	search->service = service;
	search->hash_key = ruleset->hash_key;
	search->buckets = ruleset->buckets;
	search->bucket_mask = ruleset->bucket_mask;
	search->guards = ruleset->guards;
	search->guard_mask = ruleset->guard_mask;
	return try_probes() == 1 ? &search->found : NULL;
}

/* Whether an IPv6 address has a prefix of so many bits; 0: each has. */
static __always_inline bool has_prefix6(const __u64 *addr, const __be32 *prefix, __u32 len)
{
	return (addr[0] & mask6(at_most(len, 64))) == word_of(prefix) &&
	       (addr[1] & mask6(len < 64 ? 0 : len - 64)) == word_of(prefix + 2);
}

/* Whether the only rule of a service takes a packet. */
static __always_inline bool only_rule_takes(const struct only_rule *rule, const struct query *query)
{
	if (rule->place.vlan != query->place.vlan)
		return false;
	if (rule->probe.dst_len < query->least_dst_len ||
	    rule->probe.src_len < query->least_src_len)
		return false;
	if (rule->probe.flags) {
		if (rule->probe.flags & PROBE_IN && rule->place.ifindex != query->place.ifindex)
			return false;
		if (rule->probe.flags & PROBE_INNER_VLAN &&
		    rule->place.inner_vlan != query->place.inner_vlan)
			return false;
	}
	if (query->family == FAMILY_IPV4)
		return (query->addrs[0] & word_of(rule->addr + 2)) == word_of(rule->addr);
	if (rule->probe.src_len)
		return has_prefix6(query->addrs, rule->addr, rule->probe.src_len);
	return has_prefix6(query->addrs + 2, rule->addr, rule->probe.dst_len);
}

#endif
