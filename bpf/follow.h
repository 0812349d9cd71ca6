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

/* Writes down in scratch memory what a connection needs to know of the packet. */
static __always_inline void describe_opening(const struct packet *pkt,
					     const struct decision *decision)
{
	struct opening *opening = scratch_opening();
	__u32 slot = decision->slot & LIVE_SLOT;
	struct ruleset *ruleset = bpf_map_lookup_elem(&rulesets, &slot);

	if (!opening || !ruleset) /* never; the verifier doesn't know */
		return;
	opening->request = pkt->flow;
	opening->hash_key = ruleset->hash_key;
	opening->revision = ruleset->revision;
	opening->size = pkt->size;
	opening->flags = pkt->tcp_flags;
	opening->tags = pkt->tags;
	opening->inner_vlan = pkt->inner_vlan;
	__builtin_memcpy(opening->macs, pkt->eth, sizeof(opening->macs));
}

/* Whether the action of a line sends the packet in scratch memory where its connection goes. */
__noinline __u32 keeps_backend(__u32 line)
{
	struct opening *opening = scratch_opening();
	struct action *action = line_at(line);

	if (!opening || !action)
		return 0;
	if (action->kind != ACTION_REDIRECT || !(action->flags & REMEMBERS))
		return 0;
	make_answer_flow(opening, action);
	return is_same_flow(&opening->answer, &opening->kept);
}

/* Whether the flows that a line's action sends on keep their backend when others join. */
static __always_inline bool is_sticky(__u32 line)
{
	struct opening *opening = scratch_opening();
	struct action *action = line_at(line);
	bool is_tcp = opening && proto_of(&opening->request) == IPPROTO_TCP;

	return action &&
	       (action->flags & REWRITE_STICKY || (is_tcp && action->flags & REWRITE_REPLY_NAT));
}

/* The line with the connection's backend, or 0: that of the rules' choice, or of another member. */
__noinline __u32 find_kept(__u32 chosen, __u32 first, __u32 size)
{
	if (keeps_backend(chosen))
		return chosen;
	if (!is_sticky(first))
		return 0;
	for (__u32 i = 0; i < MAX_RULE_BACKENDS && i < size; i++) {
		if (keeps_backend(first + i))
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
	if (!line || !action || !is_possible(action)) {
		end_connection(number, id);
		return 0;
	}
	if (size)
		opening->counter = action->counter;
	request->counter = opening->counter;
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

static __always_inline bool is_newer(__u32 revision, __u32 than)
{
	return (__s32)(revision - than) > 0;
}

/*
 * Whether the entry's line is one of the rule set that decides. A newer one is good, too: another
 * CPU has seen it already.
 */
static __always_inline bool is_current(const struct connection *found, __u32 slot)
{
	struct ruleset *ruleset;

	slot &= LIVE_SLOT;
	ruleset = bpf_map_lookup_elem(&rulesets, &slot);
	return ruleset && !is_newer(ruleset->revision, found->revision);
}

static __always_inline void take_line(struct decision *decision, __u32 line, __u32 counter)
{
	decision->action = line_at(line);
	decision->line = line;
	decision->counter = counter;
}

/* False where the rules no longer have the backend of the connection that was found. */
static __always_inline bool keep_connection(const struct packet *pkt, const struct choice *choice,
					    const struct connection *found,
					    struct decision *decision)
{
	struct opening *opening = scratch_opening();
	__u32 line;

	if (!opening) /* never; the verifier doesn't know */
		return false;
	describe_opening(pkt, decision);
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

/* Decides about an answer. */
static __always_inline __u32 follow_answer(const struct connection *found,
					   struct decision *decision)
{
	struct scratch *mine = this_cpu_scratch();
	__u32 port = make_answer(found->number, found->id);

	if (!mine || !port)
		return OUTCOME_NO_RULE;
	decision->action = &mine->action;
	decision->counter = UNATTRIBUTED;
	decision->sport = port;
	decision->known = true;
	return 0;
}

/*
 * Decides by the rules. Where the packet has a connection, it stays with the backend that this has,
 * if the rules have that.
 */
static __always_inline __u32 ask_rules(const struct packet *pkt, const struct connection *found,
				       bool is_known, struct decision *decision)
{
	struct choice choice = {};
	__u32 outcome = decide_by_rules(pkt, &choice, decision);

	if (!is_known)
		return outcome;
	if (outcome == OUTCOME_NO_RULE) /* the only rule of a service may not take the packet */
		choice.size = 0;
	if (keep_connection(pkt, &choice, found, decision))
		return 0;
	/* look_again may have prepared another redirect. */
	if (!outcome && !is_possible(decision->action))
		return OUTCOME_NO_DEVICE;
	return outcome;
}

/* Sends a request where its connection goes. False where the device is gone: it has ended. */
static __always_inline bool follow_request(const struct packet *pkt, const struct connection *found,
					   struct decision *decision)
{
	take_line(decision, found->line, found->counter);
	if (!is_possible(decision->action)) {
		end_connection(found->number, found->id);
		return false;
	}
	decision->sport = found->port;
	decision->known = true;
	if (found->is_renewed) {
		describe_opening(pkt, decision);
		renew_way_back(found->number, found->id, found->line);
	}
	return true;
}

/* Brings a connection up to date. False where it is over. */
static __always_inline bool keep_up(struct connection *found, __u32 flags)
{
	__u32 attended = attend(found->number, found->id, flags);

	found->is_renewed = attended == IS_RENEWED;
	return attended != IS_OVER;
}

/* Decides about a packet that is whole, or a first fragment. */
static __always_inline __u32 decide_by_flow(const struct packet *pkt, struct decision *decision)
{
	struct connection found = {};
	__u32 kind = NOT_FOUND, bits = read_live();

	decision->slot = bits & LIVE_SLOT;
	if (bits & LIVE_CONNECTIONS && may_be_remembered(pkt))
		kind = find_connection((struct flow_key *)&pkt->flow, &found, decision->slot,
				       pkt->size, pkt->tcp_flags);
	if (kind != NOT_FOUND && found.unattended && !keep_up(&found, pkt->tcp_flags))
		kind = NOT_FOUND;
	if (kind == FOUND_ANSWER)
		return follow_answer(&found, decision);
	if (answers_only())
		return OUTCOME_NO_RULE;
	if (kind == FOUND_REQUEST && is_current(&found, decision->slot)) {
		if (follow_request(pkt, &found, decision))
			return 0;
		kind = NOT_FOUND;
	}
	return ask_rules(pkt, &found, kind == FOUND_REQUEST, decision);
}

/*
 * Whether a connection begins with a packet that is sent on. The first fragment of a datagram
 * speaks for all of it, and a reset ends what it belongs to.
 */
static __always_inline bool begins_connection(const struct packet *pkt,
					      const struct decision *decision)
{
	return decision->action->flags & REMEMBERS && !decision->known && pkt->fragment != LATER &&
	       may_be_remembered(pkt) && !(pkt->tcp_flags & TCP_RST);
}

#endif
