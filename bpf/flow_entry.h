/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the entries of a connection say: the flow of the answers, which backend the requests go to,
 * and how answers leave.
 */
#ifndef __FLOW_ENTRY_H__
#define __FLOW_ENTRY_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "abi/action.h"
#include "abi/connection.h"
#include "flow_hash.h"
#include "flow_state.h"
#include "flow_table.h"
#include "heap.h"
#include "interface.h"
#include "scratch.h"

#define REMEMBERS (REWRITE_REPLY_NAT | REWRITE_STICKY)

static __always_inline __u32 vlan_of(const struct flow_key *flow)
{
	return flow->word[0] >> 32 & 0xffff;
}

static __always_inline __u32 proto_of(const struct flow_key *flow)
{
	return flow->word[0] >> 48 & 0xff;
}

static __always_inline __u32 tags_removed(const struct opening *opening,
					  const struct action *action)
{
	return action->pops < opening->tags ? action->pops : opening->tags;
}

/* The identifier of the outer tag with which the packet leaves; 0: none. */
static __always_inline __u32 vlan_after(const struct opening *opening, const struct action *action)
{
	__u32 removed = tags_removed(opening, action);

	if (action->flags & REWRITE_PUSH_VLAN)
		return bpf_ntohs(action->vlan);
	if (!removed)
		return vlan_of(&opening->request);
	return removed < opening->tags ? opening->inner_vlan : 0;
}

/* The flow of the answers to the packet if the action sends it on. */
static __always_inline void make_answer_flow(struct opening *opening, const struct action *action)
{
	const struct flow_key *request = &opening->request;
	struct flow_key *answer = &opening->answer;
	__u64 to = opening->port ?: request->word[0] & 0xffff;
	__u64 from = action->port ?: request->word[0] >> 16 & 0xffff;
	bool snat = action->flags & REWRITE_SNAT;
	const __u64 *addr = (const __u64 *)action->addr;
	const __u64 *source = (const __u64 *)action->snat;

	answer->word[0] = from | to << 16 | (__u64)vlan_after(opening, action) << 32 |
			  request->word[0] >> 48 << 48;
	if (!(action->flags & REWRITE_REPLY_NAT))
		answer->word[0] |= (__u64)FLOW_UNSEEN << 56;
	if (is_ipv6_flow(request)) {
		answer->word[1] = addr[0];
		answer->word[2] = addr[1];
		answer->word[3] = snat ? source[0] : request->word[1];
		answer->word[4] = snat ? source[1] : request->word[2];
		return;
	}
	answer->word[1] =
		action->addr[0] | (snat ? (__u64)action->snat[0] << 32 : request->word[1] << 32);
	answer->word[2] = 0;
	answer->word[3] = 0;
	answer->word[4] = 0;
}

static __always_inline bool is_same_flow(const struct flow_key *a, const struct flow_key *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] &&
	       a->word[3] == b->word[3] && a->word[4] == b->word[4];
}

static __always_inline __u32 state_of_opening(const struct opening *opening)
{
	if (proto_of(&opening->request) != IPPROTO_TCP)
		return STATE_ONE_WAY;
	return next_state(STATE_OPENING, WAY_REQUEST, opening->flags);
}

/* What makes answers leave as the request came. The client may be elsewhere later on. */
static __always_inline void write_way_back(struct flow_entry *answer, const struct opening *opening,
					   const struct action *action)
{
	__u32 vlan = tags_removed(opening, action) ? vlan_of(&opening->request) : 0;
	__u16 flags = 0;

	if (interface.reachable)
		flags |= ANSWER_REACHABLE;
	if (interface.completes_checksum)
		flags |= ANSWER_COMPLETES_CHECKSUM;
	if (action->flags & REWRITE_PUSH_VLAN)
		flags |= ANSWER_POPS;
	__builtin_memcpy(answer->frame, opening->macs + 6, 6);
	__builtin_memcpy(answer->frame + 6, opening->macs, 6);
	answer->vlan = bpf_htons(vlan);
	answer->flags = flags;
	answer->ifindex = interface.ifindex;
}

/* What both entries have. The entry is taken. */
static __always_inline void write_entry(struct flow_entry *entry, const struct flow_key *flow,
					__u32 peer, __u32 way, const struct opening *opening,
					__u32 now)
{
	entry->key = *flow;
	entry->peer = peer;
	entry->state = state_of_opening(opening);
	entry->way = way;
	entry->port = 0;
	entry->line = 0;
	entry->revision = 0;
	entry->packets = 0;
	entry->bytes = 0;
	entry->seen = now;
	entry->tick = current_tick();
	entry->counter = 0;
	entry->vlan = 0;
	entry->flags = 0;
	entry->ifindex = interface.ifindex;
	entry->request_addrs = opening->request.word[1];
	entry->request_ports = opening->request.word[0];
}

/* Makes an entry known under its flow and its id, which comes last. */
static __always_inline void publish_entry(struct flow_entry *entry, __u32 number, __u64 hash,
					  __u64 id)
{
	struct flow_tags *tags = tags_at(number / FLOW_WAYS);

	if (tags)
		*(volatile __u32 *)&tags->tag[number % FLOW_WAYS] = tag_of(hash);
	__sync_lock_test_and_set(&entry->id, id);
}

/* Writes both entries, which are taken. The answer's comes first: see take_connection. */
__noinline __u32 write_connection(__u32 of_request, __u32 of_answer, __u64 answer_hash, __u64 now)
{
	struct opening *opening = scratch_opening();
	struct flow_entry *request = entry_at(of_request), *answer = entry_at(of_answer);
	const struct flow_key *flow;
	struct action *action;

	if (!opening || !request || !answer) /* never; the verifier doesn't know */
		return 0;
	action = line_at(opening->line);
	if (!action)
		return 0;
	flow = &opening->request;
	write_entry(answer, &opening->answer, of_request, WAY_ANSWER, opening, now / 1000000000);
	write_way_back(answer, opening, action);
	write_entry(request, flow, of_answer, WAY_REQUEST, opening, now / 1000000000);
	request->port = opening->port;
	request->line = opening->line;
	request->revision = opening->revision;
	request->counter = opening->counter;
	request->packets = 1;
	request->bytes = opening->size;
	publish_entry(answer, of_answer, answer_hash, now);
	publish_entry(request, of_request, opening->hash, now);
	count_flow(FLOW_NEW);
	return 1;
}

#endif
