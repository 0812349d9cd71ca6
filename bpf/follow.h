/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Packets of connections that stand: requests go to the backend that the connection has, and
 * answers to the client. Where the rules have changed since the connection's last request, they are
 * asked whether its backend is still one of theirs.
 */
#ifndef __FOLLOW_H__
#define __FOLLOW_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/action.h"
#include "abi/limits.h"
#include "abi/outcomes.h"
#include "answer.h"
#include "balance.h"
#include "connection.h"
#include "opening.h"
#include "parse.h"
#include "scratch.h"

/*
 * Writes down in scratch memory what a connection needs to know of the packet. Its Ethernet header
 * is given apart: the packet may lie in memory, which can't hold pointers into the frame.
 */
static __always_inline void describe_opening(const struct packet *pkt, const struct ethhdr *eth,
					     __u32 slot)
{
	struct opening *opening = scratch_opening();
	struct ruleset *ruleset;

	slot &= LIVE_SLOT;
	ruleset = bpf_map_lookup_elem(&rulesets, &slot);
	if (!opening || !ruleset) /* never; the verifier doesn't know */
		return;
	opening->request = pkt->flow;
	opening->hash_key = ruleset->hash_key;
	opening->revision = ruleset->revision;
	opening->size = pkt->size;
	opening->flags = pkt->tcp_flags;
	opening->tags = pkt->tags;
	opening->inner_vlan = pkt->inner_vlan;
	__builtin_memcpy(opening->macs, eth, sizeof(opening->macs));
}

/* Whether the flows that an action sends on keep its backend where the hash says another one: when
 * others have joined, or when it takes no new flows. */
static __always_inline bool is_sticky(const struct opening *opening, const struct action *action)
{
	bool is_tcp = proto_of(&opening->request) == IPPROTO_TCP;

	return action->kind == ACTION_DRAINING || action->flags & REWRITE_STICKY ||
	       (is_tcp && action->flags & REWRITE_REPLY_NAT);
}

/* Whether the action of a line sends the packet in scratch memory where its connection goes. */
__noinline __u32 keeps_backend(__u32 line, __u32 is_chosen)
{
	struct opening *opening = scratch_opening();
	struct action *action = line_at(line);

	if (!opening || !action)
		return 0;
	if (!leads_to_backend(action) || !(action->flags & REMEMBERS))
		return 0;
	if (!is_chosen && !is_sticky(opening, action))
		return 0;
	make_answer_flow(opening, action);
	return is_same_flow(&opening->answer, &opening->kept);
}

/* The line with the connection's backend, or 0: that of the rules' choice, or of another member. */
__noinline __u32 find_kept(__u32 chosen, __u32 first, __u32 size)
{
	if (keeps_backend(chosen, true))
		return chosen;
	for (__u32 i = 0; i < MAX_RULE_BACKENDS && i < size; i++) {
		if (keeps_backend(first + i, false))
			return first + i;
	}
	return 0;
}

/*
 * Looks at a connection again, after the rules have chosen a line. The line with its backend, which
 * the entry then has; 0: the rules have it no longer, and the connection has ended. The caller has
 * written the rule's counter into scratch memory, and finds the backend's there.
 */
__noinline __u32 look_again(__u32 number, __u64 id, __u32 chosen, __u32 first, __u32 size)
{
	struct opening *opening = scratch_opening();
	struct flow_entry *request = entry_at(number), *answer;
	struct action *action;
	__u64 before;
	__u32 line;

	if (!opening || !request)
		return 0;
	before = *(volatile __u64 *)&request->line;
	answer = entry_at(*(volatile __u32 *)&request->peer);
	if (!answer)
		return 0;
	opening->port = request->port;
	opening->kept = answer->key;
	if (id_of(request) != id || id_of(answer) != id)
		return 0;
	line = find_kept(chosen, first, size);
	action = line_at(line);
	if (!line || !is_still_possible(action)) {
		end_connection(number, id);
		return 0;
	}
	if (size)
		opening->counter = action->counter;
	request->counter = opening->counter;
	request->ifindex = interface.ifindex;
	count_packet(request, opening->size);
	/* Compared, so that another connection that has the entry by now doesn't get the line. */
	__sync_val_compare_and_swap((__u64 *)&request->line, before,
				    (__u64)opening->revision << 32 | line);
	return line;
}

/* The client, or what leads to it, may have another MAC address or another interface by now. */
__noinline __u32 renew_way_back(__u32 number, __u64 id, __u32 line)
{
	struct opening *opening = scratch_opening();
	struct flow_entry *request = entry_at(number), *answer;
	struct action *action = line_at(line);

	if (!opening || !request || !action)
		return 0;
	answer = entry_at(*(volatile __u32 *)&request->peer);
	if (!answer || id_of(request) != id || id_of(answer) != id)
		return 0;
	request->ifindex = interface.ifindex;
	write_way_back(answer, opening, action);
	return 1;
}

static __always_inline void take_line(struct decision *decision, __u32 line, __u32 counter)
{
	decision->action = line_at(line);
	decision->line = line;
	decision->counter = counter;
}

/* False where the rules no longer have the backend of the connection that was found. */
static __always_inline bool keep_connection(const struct packet *pkt, const struct ethhdr *eth,
					    const struct choice *choice,
					    const struct connection *found,
					    struct decision *decision)
{
	struct opening *opening = scratch_opening();
	__u32 line;

	if (!opening) /* never; the verifier doesn't know */
		return false;
	describe_opening(pkt, eth, decision->slot);
	opening->counter = choice->counter;
	line = look_again(found->number, found->id, decision->line, choice->first, choice->size);
	if (!line)
		return false;
	take_line(decision, line, opening->counter);
	decision->sport = found->port;
	decision->known = true;
	if (found->is_renewed)
		renew_way_back(found->number, found->id, line);
	return true;
}

static __always_inline void take_answer(struct decision *decision, const struct action *action,
					__be16 port)
{
	decision->action = action;
	decision->counter = UNATTRIBUTED;
	decision->sport = port;
	decision->known = true;
}

/* Sends an answer to the client. False where the connection has gone meanwhile. */
static __always_inline bool follow_answer(const struct connection *found, struct decision *decision)
{
	struct scratch *mine = this_cpu_scratch();
	__u32 port = make_answer(found->number, found->id);

	if (!mine || !port)
		return false;
	take_answer(decision, &mine->action, port);
	return true;
}

/*
 * Whether the packet has nothing to do with its connection, which is of another interface: the
 * rules for this one lead to no server. With a forged address, it could otherwise get past a rule's
 * interface.
 */
static __always_inline bool is_stranger(const struct connection *found, __u32 outcome,
					const struct decision *decision)
{
	if (!found->elsewhere)
		return false;
	return outcome == OUTCOME_NO_RULE || (!outcome && !leads_to_backend(decision->action));
}

/*
 * Decides by the rules. Where the packet has a connection, it stays with the backend that this has,
 * if the rules have that.
 */
static __always_inline __u32 ask_rules(const struct packet *pkt, const struct ethhdr *eth,
				       const struct connection *found, bool is_known,
				       struct decision *decision)
{
	struct choice choice = {};
	__u32 outcome = decide_by_rules(pkt, &choice, decision);

	if (!is_known || is_stranger(found, outcome, decision))
		return outcome;
	if (outcome == OUTCOME_NO_RULE) /* the only rule of a service may not take the packet */
		choice.size = 0;
	if (keep_connection(pkt, eth, &choice, found, decision))
		return 0;
	/* look_again may have prepared another redirect. */
	if (!outcome && !is_possible(decision->action))
		return OUTCOME_NO_DEVICE;
	return outcome;
}

/* Sends a request where its connection goes. False where the device is gone: it has ended. */
static __always_inline bool follow_request(const struct packet *pkt, const struct ethhdr *eth,
					   const struct connection *found,
					   struct decision *decision)
{
	take_line(decision, found->line, found->counter);
	if (!is_still_possible(decision->action)) {
		end_connection(found->number, found->id);
		return false;
	}
	decision->sport = found->port;
	decision->known = true;
	if (found->is_renewed) {
		describe_opening(pkt, eth, decision->slot);
		renew_way_back(found->number, found->id, found->line);
	}
	return true;
}

/* Brings a connection up to date that was found. NOT_FOUND where it is over. */
static __always_inline __u32 keep_up(__u32 kind, struct connection *found, __u32 flags)
{
	__u32 attended;

	if (kind == NOT_FOUND || !found->unattended)
		return kind;
	attended = attend(found->number, found->id, flags);
	found->is_renewed = attended == IS_RENEWED;
	return attended == IS_OVER ? NOT_FOUND : kind;
}

/* The connection of a packet that is whole, or a first fragment: NOT_FOUND, FOUND_… */
static __always_inline __u32 find(const struct packet *pkt, const struct flow_key *flow,
				  struct connection *found, __u32 slot)
{
	if (!may_be_remembered(pkt))
		return NOT_FOUND;
	return find_connection((struct flow_key *)flow, found, slot, pkt->size, pkt->tcp_flags);
}

/* Whether the backend of the connection has to be looked for among the rules. */
static __always_inline bool is_stale(__u32 kind, const struct connection *found)
{
	return kind == FOUND_REQUEST && !found->is_current;
}

/* False where the packet has no connection, or that is over. */
static __always_inline bool follow(const struct packet *pkt, const struct ethhdr *eth, __u32 kind,
				   const struct connection *found, struct decision *decision)
{
	if (kind == FOUND_ANSWER)
		return follow_answer(found, decision);
	return kind == FOUND_REQUEST && follow_request(pkt, eth, found, decision);
}

/* These are not outcomes. */
#define NOT_KNOWN   OUTCOMES	   /* the packet has no connection */
#define ASK_RULES   (OUTCOMES + 1) /* whether the backend of its connection is still theirs */
#define LOOK_CLOSER (OUTCOMES + 2) /* it may have a connection: see glance */

/* Decides by the packet's connection, where the rules need not be asked. */
static __always_inline __u32 decide_by_connection(const struct packet *pkt,
						  struct decision *decision)
{
	/* Apart, or all of the packet would have to lie on the stack. */
	const struct flow_key flow = pkt->flow;
	struct connection found = {};
	__u32 kind = find(pkt, &flow, &found, decision->slot);

	if (is_stale(kind, &found)) /* decide_by_flow brings it up to date */
		return ASK_RULES;
	kind = keep_up(kind, &found, pkt->tcp_flags);
	return follow(pkt, pkt->eth, kind, &found, decision) ? 0 : NOT_KNOWN;
}

/* Decides about a packet that is whole, or a first fragment. */
static __always_inline __u32 decide_by_flow(const struct packet *pkt, const struct ethhdr *eth,
					    struct decision *decision, __u32 live)
{
	struct connection found = {};
	__u32 kind = NOT_FOUND;

	if (live & LIVE_CONNECTIONS)
		kind = find(pkt, &pkt->flow, &found, decision->slot);
	kind = keep_up(kind, &found, pkt->tcp_flags);
	if (!is_stale(kind, &found) && follow(pkt, eth, kind, &found, decision))
		return 0;
	if (answers_only(decision->slot))
		return OUTCOME_NO_RULE;
	return ask_rules(pkt, eth, &found, is_stale(kind, &found), decision);
}

/*
 * Whether a connection may begin with a packet that is sent on. The first fragment of a datagram
 * speaks for all of it.
 */
static __always_inline bool may_begin(const struct packet *pkt, const struct decision *decision)
{
	return decision->action->flags & REMEMBERS && !decision->known && pkt->fragment != LATER;
}

/* Whether it does. A reset ends what it belongs to. */
static __always_inline bool begins(const struct packet *pkt)
{
	return may_be_remembered(pkt) && !(pkt->tcp_flags & TCP_RST);
}

#endif
