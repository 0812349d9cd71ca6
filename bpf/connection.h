/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Finds the connection of a packet and keeps it up to date. */
#ifndef __CONNECTION_H__
#define __CONNECTION_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/connection.h"
#include "abi/ruleset.h"
#include "flow_hash.h"
#include "flow_state.h"
#include "flow_table.h"
#include "interface.h"
#include "maps.h"
#include "parse.h"
#include "policy.h"

/* A connection that was found. */
struct connection {
	__u64 id;
	__u32 number; /* of the packet's entry */
	/* Of requests. */
	__u32 line; /* of the backend's action */
	__u32 counter;
	__be16 port;	     /* the source port with which they leave; 0: their own */
	__u8 is_current : 1; /* the line is one of the rule set that decides, for this interface */
	__u8 elsewhere : 1;  /* its requests arrived at another interface so far */
	__u8 unattended : 1; /* its clock or its state changes: see attend */
	__u8 is_renewed : 1; /* its clock did */
};

/* What find_connection finds. */
#define NOT_FOUND     0
#define FOUND_REQUEST 1
#define FOUND_ANSWER  2

/* What attend says of a connection. */
#define IS_OVER	   0
#define STANDS	   1
#define IS_RENEWED 2

/*
 * Only flows that can have answers: of UDP and TCP, between two hosts and two ports. A datagram
 * from port 0 wants no answer (RFC 768).
 */
static __always_inline bool may_be_remembered(const struct packet *pkt)
{
	if (pkt->proto != IPPROTO_UDP && pkt->proto != IPPROTO_TCP)
		return false;
	if (pkt->not_unicast_dst | pkt->not_unicast_src)
		return false;
	return (__u16)pkt->flow.word[0] && (__u16)(pkt->flow.word[0] >> 16);
}

/*
 * Brings both entries' state up to date. That of the request's entry counts, and the answer's
 * repeats it: so two CPUs that change it at the same time agree on one.
 */
__noinline __u32 change_state(__u32 number, __u64 id, __u32 flags)
{
	struct flow_entry *entry = entry_at(number), *request = entry, *answer;
	__u32 way, now = 0;

	if (!entry) /* never; the verifier doesn't know */
		return 0;
	way = *(volatile __u8 *)&entry->way;
	answer = entry_at(*(volatile __u32 *)&entry->peer);
	if (!answer)
		return 0;
	if (way != WAY_REQUEST) {
		request = answer;
		answer = entry;
	}
	if (id_of(request) != id || id_of(answer) != id)
		return 0;
	for (int i = 0; i < 4; i++) {
		/* State, way and port: one word. */
		__u32 *word = (__u32 *)&request->state, old = *(volatile __u32 *)word;

		now = next_state(old & 0xff, way, flags);
		if (now == (old & 0xff) ||
		    __sync_val_compare_and_swap(word, old, (old & ~0xffu) | now) == old)
			break;
	}
	*(volatile __u8 *)&answer->state = now;
	now = *(volatile __u8 *)&request->state;
	*(volatile __u8 *)&answer->state = now;
	return now;
}

/* Writes when the connection was seen last, in both entries. False where the other one has gone:
 * the command was killed while it removed the connection. */
static __always_inline bool renew(struct flow_entry *entry, __u64 id, __u32 now, __u32 tick)
{
	struct flow_entry *peer = entry_at(*(volatile __u32 *)&entry->peer);

	entry->tick = tick;
	entry->seen = now;
	if (!peer || id_of(peer) != id)
		return false;
	peer->seen = now;
	return true;
}

/*
 * What is not to be done for each packet of a connection: its clock and its state. Global, so that
 * the verifier walks it once.
 */
__noinline __u32 attend(__u32 number, __u64 id, __u32 flags)
{
	struct flow_entry *entry = entry_at(number);
	__u32 tick = current_tick(), result = STANDS, state, way, now;

	if (!entry || id_of(entry) != id)
		return IS_OVER;
	state = *(volatile __u8 *)&entry->state;
	way = *(volatile __u8 *)&entry->way;
	if (*(volatile __u32 *)&entry->tick != tick) {
		now = seconds();
		if (is_over(state, *(volatile __u32 *)&entry->seen, now)) {
			if (end_connection(number, id))
				count_flow(FLOW_EXPIRED);
			return IS_OVER;
		}
		if (!renew(entry, id, now, tick)) {
			end_connection(number, id);
			return IS_OVER;
		}
		result = IS_RENEWED;
	}
	/* The client uses its port again. */
	if (way == WAY_REQUEST && flags & TCP_SYN && is_ended(state)) {
		end_connection(number, id);
		return IS_OVER;
	}
	if (may_change(state, way, flags))
		change_state(number, id, flags);
	return result;
}

static __always_inline bool is_newer(__u32 revision, __u32 than)
{
	return (__s32)(revision - than) > 0;
}

/* A line of a newer rule set than the one that decides is good, too: another CPU has seen it
 * already. */
static __always_inline void describe_connection(struct connection *found,
						const struct flow_entry *entry,
						const struct seen_entry *seen, __u32 revision)
{
	found->id = seen->id;
	found->line = seen->backend;
	found->counter = *(volatile __u32 *)&entry->counter;
	found->port = seen->port;
	found->elsewhere = *(volatile __u32 *)&entry->ifindex != interface.ifindex;
	found->is_current = !found->elsewhere && !is_newer(revision, seen->backend >> 32);
}

static __always_inline void count_packet(struct flow_entry *entry, __u32 size)
{
	entry->packets++;
	entry->bytes += size;
}

/* The entry of a flow: mostly where the hash says. */
static __always_inline struct flow_entry *find_entry(struct flow_key *flow, __u64 hash,
						     struct seen_entry *seen, __u32 *number)
{
	const struct flow_table *table = the_table();
	struct flow_entry *entry;
	struct flow_tags *tags;
	__u32 bucket;

	if (!table)
		return NULL;
	bucket = first_bucket(hash, table->bucket_mask);
	tags = tags_at(bucket);
	if (!tags)
		return NULL;
	*number = bucket * FLOW_WAYS + first_way(hash);
	if (*(volatile __u32 *)&tags->tag[first_way(hash)] == tag_of(hash)) {
		entry = entry_at(*number);
		if (entry && read_entry(entry, flow, seen))
			return entry;
	}
	*number = search_tags(flow, bucket, tag_of(hash));
	if (*number == NO_ENTRY)
		*number = search_tags(flow, second_bucket(hash, table->bucket_mask), tag_of(hash));
	entry = entry_at(*number);
	return entry && read_entry(entry, flow, seen) ? entry : NULL;
}

/*
 * The connection of a packet of this flow and size, by the key of the slot's rule set. Neither
 * static nor inlined, so that the verifier walks it once and not for every path through the parser.
 *
 * It is counted here, but for a request whose backend the rules have to be asked for: see
 * look_again. Two CPUs that count packets of one connection at the same time may lose one.
 */
__noinline __u32 find_connection(struct flow_key *flow, struct connection *found, __u32 slot,
				 __u32 size, __u32 flags)
{
	struct ruleset *ruleset;
	struct flow_entry *entry;
	struct seen_entry seen;

	slot &= LIVE_SLOT;
	ruleset = bpf_map_lookup_elem(&rulesets, &slot);
	if (!flow || !found || !ruleset) /* never; the verifier doesn't know */
		return NOT_FOUND;
	entry = find_entry(flow, hash_flow(ruleset->hash_key, flow, is_ipv6_flow(flow)), &seen,
			   &found->number);
	if (!entry)
		return NOT_FOUND;
	if (seen.way == WAY_REQUEST && answers_only(slot))
		return NOT_FOUND;
	found->unattended = *(volatile __u32 *)&entry->tick != current_tick() ||
			    may_change(seen.state, seen.way, flags);
	found->is_renewed = 0;
	describe_connection(found, entry, &seen, ruleset->revision);
	if (seen.way == WAY_ANSWER || found->is_current)
		count_packet(entry, size);
	return seen.way == WAY_REQUEST ? FOUND_REQUEST : FOUND_ANSWER;
}

#endif
