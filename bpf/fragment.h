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

/*
 * Writes down in scratch memory which datagram the fragment is of. The functions below know the
 * packet by that alone: handed on, the verifier would lose what it knows of pointers into it.
 */
static __always_inline void name_datagram(const struct packet *pkt)
{
	struct scratch *mine = this_cpu_scratch();

	if (!mine) /* never; the verifier doesn't know */
		return;
	mine->datagram = pkt->flow;
	mine->datagram.word[0] =
		pkt->identification | (__u64)pkt->vlan << 32 | (__u64)pkt->family << 56;
	if (pkt->family == FAMILY_IPV4) /* by RFC 791; RFC 8200 leaves the protocol out */
		mine->datagram.word[0] |= (__u64)pkt->proto << 48;
}

static __always_inline bool has_passed(const struct flow_key *key, __u64 now)
{
	__u64 *since = bpf_map_lookup_elem(&passed_frags, key);

	/* Signed: another CPU may have written a time after now. */
	return since && (__s64)(now - *since) <= (__s64)PASSED_TIME;
}

/*
 * Has the later fragments follow this one, whose action is in scratch memory. False where they have
 * passed, so that the first one must pass, too. Not static, so that the verifier walks it once.
 */
__noinline __u32 remember_first(void)
{
	struct scratch *mine = this_cpu_scratch();
	__u64 now = bpf_ktime_get_ns();

	if (!mine || has_passed(&mine->datagram, now))
		return false;
	mine->first.seen = now;
	mine->first.action = mine->action;
	mine->first.action.counter = mine->decided.counter;
	bpf_map_update_elem(&fragments, &mine->datagram, &mine->first, 0);
	return true;
}

/*
 * For a first fragment that passes: its later fragments must not follow an earlier datagram with
 * the same identification.
 */
static __noinline void forget_first(void)
{
	struct scratch *mine = this_cpu_scratch();

	if (mine)
		bpf_map_delete_elem(&fragments, &mine->datagram);
}

/*
 * The action is copied before it is used: the map gives an entry to another datagram whenever it
 * needs room.
 */
static __noinline __u32 follow_first(struct decision *decision)
{
	struct scratch *mine = this_cpu_scratch();
	struct first_fragment *first;
	__u64 now = bpf_ktime_get_ns();

	if (!mine) /* never; the verifier doesn't know */
		return OUTCOME_FRAGMENT;
	first = bpf_map_lookup_elem(&fragments, &mine->datagram);
	if (!first || now - first->seen > FRAGMENT_TIME) {
		if (!has_passed(&mine->datagram, now))
			bpf_map_update_elem(&passed_frags, &mine->datagram, &now, 0);
		return OUTCOME_FRAGMENT;
	}
	mine->action = first->action;
	decision->action = &mine->action;
	decision->counter = mine->action.counter;
	if (is_possible(&mine->action) || is_still_possible(&mine->action))
		return 0;
	return OUTCOME_NO_DEVICE;
}

#endif
