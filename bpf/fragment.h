/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Only the first fragment of a datagram has ports. The program remembers where it went, and the
 * later fragments follow it, even if the rules have changed. A program cannot hold a packet back,
 * so a later fragment that arrives before the first one passes. Then all of the datagram passes:
 * otherwise the server would wait for one part, and this host for the other.
 *
 * These functions are not inlined, so that what they have on the stack is not there when rules are
 * looked up: the verifier allows 512 bytes for a whole chain of calls.
 */
#ifndef __FRAGMENT_H__
#define __FRAGMENT_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/flow.h"
#include "abi/outcomes.h"
#include "balance.h"
#include "maps.h"
#include "parse.h"
#include "scratch.h"

/* How long Linux waits for the rest of a datagram (ip_frag_time); RFC 8200 allows 60 s. */
#define FRAGMENT_TIME 30000000000ull /* ns */

/*
 * How long a datagram passes, from its first fragment that did. A fast sender of IPv4 has used all
 * identifications after some seconds. A longer time, or one that starts again with each fragment,
 * would let its later datagrams pass as well.
 */
#define PASSED_TIME 1000000000ull /* ns */

static __always_inline struct flow_key fragment_key(const struct packet *pkt)
{
	struct flow_key key = pkt->flow;

	key.word[0] = pkt->identification | (__u64)pkt->vlan << 32 | (__u64)pkt->family << 56;
	if (pkt->family == FAMILY_IPV4) /* by RFC 791; RFC 8200 leaves the protocol out */
		key.word[0] |= (__u64)pkt->proto << 48;
	return key;
}

static __always_inline bool has_passed(const struct flow_key *key, __u64 now)
{
	__u64 *since = bpf_map_lookup_elem(&passed_frags, key);

	/* Signed: another CPU may have written a time after now. */
	return since && (__s64)(now - *since) <= (__s64)PASSED_TIME;
}

/* False where later fragments have passed, so that the first one must pass, too. */
static __noinline bool remember_first(const struct flow_key *key, const struct decision *decision)
{
	struct scratch *mine = this_cpu_scratch();
	__u64 now = bpf_ktime_get_ns();

	if (!mine || has_passed(key, now))
		return false;
	mine->first.seen = now;
	mine->first.action = *decision->action;
	mine->first.action.counter = decision->counter;
	bpf_map_update_elem(&fragments, key, &mine->first, 0);
	return true;
}

/*
 * For a first fragment that passes: its later fragments must not follow an earlier datagram with
 * the same identification.
 */
static __noinline void forget_first(const struct flow_key *key)
{

	bpf_map_delete_elem(&fragments, key);
}

/*
 * The action is copied before it is used: the map gives an entry to another datagram whenever it
 * needs room.
 */
static __noinline __u32 follow_first(const struct flow_key *key, struct decision *decision)
{
	struct first_fragment *first = bpf_map_lookup_elem(&fragments, key);
	__u64 now = bpf_ktime_get_ns();
	struct scratch *mine = this_cpu_scratch();
	struct action *action;

	if (!first || now - first->seen > FRAGMENT_TIME) {
		if (!has_passed(key, now))
			bpf_map_update_elem(&passed_frags, key, &now, 0);
		return OUTCOME_FRAGMENT;
	}
	if (!mine) /* never; the verifier doesn't know */
		return OUTCOME_NO_DEVICE;
	action = &mine->action;
	*action = first->action;
	decision->action = action;
	decision->counter = action->counter;
	return is_possible(action) ? 0 : OUTCOME_NO_DEVICE;
}

/*
 * The same for a packet. It is not handed on: the verifier would lose what it knows of pointers
 * into the packet.
 */
static __always_inline bool remember(const struct packet *pkt, const struct decision *decision)
{
	struct flow_key key = fragment_key(pkt);

	return remember_first(&key, decision);
}

static __always_inline void forget(const struct packet *pkt)
{
	struct flow_key key = fragment_key(pkt);

	forget_first(&key);
}

static __always_inline __u32 follow(const struct packet *pkt, struct decision *decision)
{
	struct flow_key key = fragment_key(pkt);

	return follow_first(&key, decision);
}

#endif
