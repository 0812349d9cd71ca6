/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * A short look for the connection of a packet: where its entry mostly stands, and as far as nothing
 * but counting is to be done there. All of it is inlined, because a function that returns costs as
 * much as half of this, where the kernel mitigates returns. follow_plain does the rest.
 */
#ifndef __GLANCE_H__
#define __GLANCE_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/connection.h"
#include "answer.h"
#include "balance.h"
#include "connection.h"
#include "flow_hash.h"
#include "flow_state.h"
#include "flow_table.h"
#include "follow.h"
#include "maps.h"
#include "parse.h"
#include "policy.h"
#include "scratch.h"

/*
 * 1 where an entry of the bucket has this tag. Computed, because each branch would double the paths
 * that the verifier walks: less than nothing is left only of no difference.
 */
static __always_inline __u32 has_tag(const struct flow_tags *tags, __u32 tag)
{
	__u64 differences = 0;

	if (!tags) /* never; the verifier doesn't know */
		return 0;
#pragma unroll
	for (__u32 way = 0; way < FLOW_WAYS; way++) {
		differences |= (__u64)(*(volatile __u32 *)&tags->tag[way] ^ tag) - 1;
		asm volatile("" : "+r"(differences)); /* or all tags would lie on the stack */
	}
	return differences >> 63;
}

/* Sends a request where its connection goes. */
static __always_inline __u32 glance_at_request(struct flow_entry *entry,
					       const struct seen_entry *seen, __u32 revision,
					       __u32 size, struct decision *decision)
{
	if (answers_only(decision->slot))
		return NOT_KNOWN;
	if (is_newer(revision, seen->backend >> 32) ||
	    *(volatile __u32 *)&entry->ifindex != interface.ifindex)
		return ASK_RULES;
	take_line(decision, seen->backend, *(volatile __u32 *)&entry->counter);
	if (!is_still_possible(decision->action))
		return LOOK_CLOSER;
	decision->sport = seen->port;
	decision->known = true;
	count_packet(entry, size);
	return 0;
}

/* Sends an answer to the client. */
static __always_inline __u32 glance_at_answer(const struct packet *pkt, struct flow_entry *entry,
					      __u64 id, struct decision *decision)
{
	struct scratch *mine = this_cpu_scratch();
	__u32 port;

	if (!mine) /* never; the verifier doesn't know */
		return LOOK_CLOSER;
	port = describe_answer(&mine->action, entry, id, pkt->family == FAMILY_IPV6);
	if (!port || !is_redirected(&mine->action))
		return LOOK_CLOSER;
	take_answer(decision, &mine->action, port);
	count_packet(entry, pkt->size);
	return 0;
}

/*
 * Decides by the packet's connection. NOT_KNOWN: it has none; ASK_RULES: see there; LOOK_CLOSER:
 * follow_plain knows. The packet is counted only where it is decided here.
 */
static __always_inline __u32 glance(const struct packet *pkt, struct decision *decision)
{
	__u32 slot = decision->slot, bucket;
	struct ruleset *ruleset = bpf_map_lookup_elem(&rulesets, &slot);
	const struct flow_table *table = the_table();
	struct flow_entry *entry;
	struct flow_tags *tags;
	struct seen_entry seen;
	__u64 hash;

	if (!ruleset || !table)
		return NOT_KNOWN;
	hash = hash_flow(ruleset->hash_key, &pkt->flow, pkt->family == FAMILY_IPV6);
	bucket = first_bucket(hash, table->bucket_mask);
	tags = tags_at(bucket);
	if (!tags)
		return NOT_KNOWN;
	if (*(volatile __u32 *)&tags->tag[first_way(hash)] != tag_of(hash)) {
		bucket = second_bucket(hash, table->bucket_mask);
		return has_tag(tags, tag_of(hash)) | has_tag(tags_at(bucket), tag_of(hash))
			       ? LOOK_CLOSER
			       : NOT_KNOWN;
	}
	entry = entry_at(bucket * FLOW_WAYS + first_way(hash));
	if (!entry || *(volatile __u32 *)&entry->tick != current_tick())
		return LOOK_CLOSER;
	if (!read_entry(entry, &pkt->flow, &seen) ||
	    may_change(seen.state, seen.way, pkt->tcp_flags))
		return LOOK_CLOSER;
	if (seen.way == WAY_REQUEST)
		return glance_at_request(entry, &seen, ruleset->revision, pkt->size, decision);
	return glance_at_answer(pkt, entry, seen.id, decision);
}

#endif
