/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * From a packet to the action of the rule that takes it. A rule with several backends has a
 * weighted Maglev table (Eisenbud et al., NSDI 2016), which the command fills; the program hashes
 * the flow to a slot of it. The table has the same size for every rule, because a flow would move
 * to another backend whenever the size changed.
 */
#ifndef __BALANCE_H__
#define __BALANCE_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/action.h"
#include "abi/outcomes.h"
#include "abi/ruleset.h"
#include "flow_hash.h"
#include "heap.h"
#include "hook.h"
#include "interface.h"
#include "link.h"
#include "maps.h"
#include "parse.h"
#include "rule_lookup.h"
#include "show.h"

/* What was decided for a packet. */
struct decision {
	const struct action *action;
	__u32 line; /* of the action; of one that lies in no line, 0 */
	__u32 counter;
	__u32 slot;   /* whose rule set decides */
	__be16 sport; /* the new source port; 0: unchanged */
	bool known;   /* it belongs to a connection */
};

static __always_inline void show_decision(const struct decision *decision)
{
	if (interface.shows)
		write_down(decision->counter, decision->action->ifindex, decision->sport,
			   decision->known);
}

/* False where the action's device is gone, for a backend that takes no new flows, and for line 0,
 * which is no action. */
static __always_inline bool is_possible(const struct action *action)
{
	if (!action)
		return false;
	if (action->kind == ACTION_REDIRECT || action->kind == ACTION_FORWARD ||
	    action->kind == ACTION_ANSWER)
		return prepare_redirect(action->ifindex);
	return action->kind && action->kind < ACTION_DRAINING;
}

/* Whether an action sends connections that stand to its backend. */
static __always_inline bool leads_to_backend(const struct action *action)
{
	return action->kind == ACTION_REDIRECT || action->kind == ACTION_DRAINING;
}

/* Like is_possible, for the backend of a connection that stands. */
static __always_inline bool is_still_possible(const struct action *action)
{
	return action && leads_to_backend(action) && prepare_redirect(action->ifindex);
}

/*
 * What of a packet's flow chooses the backend, mostly. Multiplied once, the hashes of ports in a
 * row are evenly far from each other, as the slots of a backend are: two in three flows of a client
 * could get the same one. So they are mixed again.
 */
static __always_inline __u32 flow_hash(const struct packet *pkt, __u32 slot)
{
	struct ruleset *ruleset = bpf_map_lookup_elem(&rulesets, &slot);
	__u64 key = ruleset ? ruleset->hash_key : 0;

	return mix(hash_flow(key, &pkt->flow, pkt->family == FAMILY_IPV6), 0) >> 32;
}

/*
 * What chooses the backend where that is not the flow. The source address comes in two words: a
 * pointer would put all of the packet on the stack.
 */
__noinline __u32 other_hash(__u64 high, __u64 low, __u32 slot, __u32 kind)
{
	struct ruleset *ruleset;

	if (kind == HASH_PACKET)
		return bpf_get_prandom_u32();
	slot &= LIVE_SLOT;
	ruleset = bpf_map_lookup_elem(&rulesets, &slot);
	return mix(mix(mix(ruleset ? ruleset->hash_key : 0, high), low), kind) >> 32;
}

/* The rule's backends; size 0: it has one action, in the first line. */
struct choice {
	__u32 first;
	__u32 size;
	__u32 maglev;
	__u32 counter;
	__u32 hash; /* HASH_* */
};

/* What of the packet chooses the backend. */
static __always_inline __u32 balance_hash(const struct packet *pkt, __u32 slot, __u32 kind)
{
	if (!kind)
		return flow_hash(pkt, slot);
	if (pkt->family == FAMILY_IPV6)
		return other_hash(pkt->flow.word[1], pkt->flow.word[2], slot, kind);
	return other_hash(0, (__u32)pkt->flow.word[1], slot, kind);
}

static __always_inline __u32 maglev_slot(__u32 hash)
{
	return (__u64)hash * MAGLEV_SLOTS >> 32;
}

static __always_inline __u32 choose_by_hash(const struct choice *choice, __u32 hash)
{
	__u32 slot = maglev_slot(hash);
	__u8 *table = line_at(choice->maglev + slot / LINE_BYTES);
	return choice->first + (table ? table[slot % LINE_BYTES] : 0);
}

/* So many other slots of the table are tried before all backends are, one after the other. */
#define OTHER_SLOTS 16

struct fallback_search {
	struct choice choice;
	__u32 hash;
	__u32 last_resort; /* line of one whose device has no link; 0: none so far */
	__u32 found;	   /* line of one whose device has a link; 0: none */
};

/* The flows of a backend go to the others by their weights, so that none of them gets all. */
static __always_inline __u32 line_to_try(const struct fallback_search *search, __u32 step)
{
	if (step < OTHER_SLOTS)
		return choose_by_hash(&search->choice, mix(search->hash, step + 1) >> 32);
	return search->choice.first + (search->hash + step) % search->choice.size;
}

/* A step of bpf_loop: 1 ends it. */
static long try_another(__u32 step, void *arg)
{
	struct fallback_search *search = arg;
	__u32 line = line_to_try(search, step);
	const struct action *action = line_at(line);

	if (!is_possible(action))
		return 0;
	if (!lacks_link(action->ifindex)) {
		search->found = line;
		return 1;
	}
	if (!search->last_resort)
		search->last_resort = line;
	return 0;
}

/*
 * The line of a backend that can have the flow in place of the one that was chosen. If none can,
 * because no device has a link, the kernel will lose the packet, and the ledger will count it: for
 * the backend that was chosen, or, where its device is gone, for any other. 0: all devices are
 * gone, or no backend takes new flows.
 */
__noinline __u32 find_fallback(__u32 first, __u32 size, __u32 maglev, __u32 hash, __u32 chosen)
{
	struct fallback_search search = {
		.choice = {.first = first, .size = size, .maglev = maglev},
		.hash = hash,
	};

	if (is_possible(line_at(chosen)))
		search.last_resort = chosen;
	bpf_loop(OTHER_SLOTS + size, try_another, &search, 0);
	return search.found ?: search.last_resort;
}

/*
 * The packet's backend of several: the one that its flow has, or another where that has no device,
 * or no link. The hash says only backends that take new flows, unless none of them does.
 */
static __always_inline bool choose_backend(const struct packet *pkt, __u32 slot,
					   const struct choice *choice, struct decision *decision)
{
	__u32 hash = balance_hash(pkt, slot, choice->hash);
	__u32 line = choose_by_hash(choice, hash);
	const struct action *action = line_at(line);

	show_slot(maglev_slot(hash));
	if (!is_possible(action) || lacks_link(action->ifindex)) {
		line = find_fallback(choice->first, choice->size, choice->maglev, hash, line);
		action = line_at(line);
		if (!is_possible(action))
			return false;
	}
	decision->action = action;
	decision->line = line;
	decision->counter = action->counter;
	return true;
}

static __always_inline bool choose(const struct packet *pkt, __u32 slot,
				   const struct choice *choice, struct decision *decision)
{
	if (choice->size)
		return choose_backend(pkt, slot, choice, decision);
	decision->action = line_at(choice->first);
	decision->line = choice->first;
	decision->counter = choice->counter;
	return is_possible(decision->action);
}

static __always_inline void make_query(struct query *query, const struct packet *pkt, __u32 slot)
{
	query->addrs[0] = pkt->flow.word[1];
	query->addrs[1] = pkt->flow.word[2];
	query->addrs[2] = pkt->flow.word[3];
	query->addrs[3] = pkt->flow.word[4];
	query->place.ifindex = interface.ifindex;
	query->place.vlan = pkt->vlan;
	query->place.inner_vlan = pkt->inner_vlan;
	query->family = pkt->family;
	query->slot = slot;
	query->least_dst_len = pkt->not_unicast_dst;
	query->least_src_len = pkt->not_unicast_src;
}

/* What the rule that takes the packet has for it. False where none does. */
static __always_inline bool find_choice(const struct query *query, __u32 line,
					struct choice *choice)
{
	const struct only_rule *only = line_at(line);
	const struct found *found;
	const struct set *set;

	if (!only)
		return false;
	if (only->kind == SERVICE_ONLY) {
		choice->first = only->target;
		choice->size = only->size;
		choice->maglev = only->maglev;
		choice->counter = only->counter;
		choice->hash = only->hash;
		return only_rule_takes(only, query);
	}
	found = find_rule(query, line);
	if (!found)
		return false;
	choice->first = found->target;
	choice->size = 0;
	choice->maglev = 0;
	choice->counter = found->counter;
	choice->hash = 0;
	set = line_at(found->target);
	if (set && set->kind == ACTION_BALANCE) {
		choice->first = set->members;
		choice->size = set->size;
		choice->maglev = set->maglev;
		choice->hash = set->hash;
	}
	return true;
}

static __always_inline __u32 class_of(const struct packet *pkt, __u32 *port)
{
	__u32 ipv6 = pkt->family == FAMILY_IPV6 ? PORTS_IPV6 : 0;

	*port = (__u16)(pkt->flow.word[0] >> 16);
	*port = bpf_ntohs(*port);
	if (pkt->proto == IPPROTO_UDP)
		return PORTS_UDP + ipv6;
	if (pkt->proto == IPPROTO_TCP)
		return PORTS_TCP + ipv6;
	if (pkt->proto == IPPROTO_SCTP)
		return PORTS_SCTP + ipv6;
	*port = pkt->proto & 0xff;
	return ipv6 ? PORTS_OTHER6 : PORTS_OTHER4;
}

/*
 * Decides by the rules. The redirect, if it is one, is prepared, and no byte of the packet has
 * changed.
 */
static __always_inline __u32 decide_by_rules(const struct packet *pkt, struct choice *choice,
					     struct decision *decision)
{
	__u32 slot = decision->slot;
	struct query query;
	__u32 class, port;
	__u32 line;

	class = class_of(pkt, &port);
	line = service_line(slot, class, port);
	if (!line)
		return OUTCOME_NO_RULE;
	make_query(&query, pkt, slot);
	if (!find_choice(&query, line, choice))
		return OUTCOME_NO_RULE;
	if (!choose(pkt, slot, choice, decision))
		return OUTCOME_NO_DEVICE;
	return 0;
}

#endif
