/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Fragments: only a datagram's first one has ports. Where it went is remembered, and
 * the later ones follow it, whatever the rules say by then. No packet can be held back
 * here, so a later one that comes before the first passes; all of the datagram then
 * passes, or one part would wait at a server and the other at this host.
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

/* How long Linux waits for the rest of a datagram (ip_frag_time); RFC 8200 allows 60 s. */
#define FRAGMENT_TIME 30000000000ull /* ns */

/*
 * How long a datagram passes, from the first fragment that did. A fast sender of IPv4
 * has used all identifications after some seconds: a longer time, or one that each
 * fragment starts again, would let later datagrams pass as well.
 */
#define PASSED_TIME 1000000000ull /* ns */

static __always_inline struct flow_key fragment_key(const struct packet *pkt)
{
	struct flow_key key = pkt->flow;

	key.word[0] = pkt->identification | (__u64)pkt->vlan << 32 | (__u64)pkt->family << 56;
	if (pkt->family == FAMILY_IPV4) /* RFC 791; RFC 8200 leaves the protocol out */
		key.word[0] |= (__u64)pkt->proto << 48;
	return key;
}

static __always_inline bool passes(const struct flow_key *key, __u64 now)
{
	__u64 *since = bpf_map_lookup_elem(&passed_frags, key);

	/* Signed: another CPU may have written it after now. */
	return since && (__s64)(now - *since) <= (__s64)PASSED_TIME;
}

/* False where later fragments have passed, so that the first one must, too. */
static __always_inline bool lead(const struct packet *pkt, const struct backend *backend)
{
	struct flow_key key = fragment_key(pkt);
	struct first_fragment value = {.seen = bpf_ktime_get_ns(), .backend = *backend};

	if (passes(&key, value.seen))
		return false;
	bpf_map_update_elem(&fragments, &key, &value, 0);
	return true;
}

/*
 * What an earlier datagram with the same identification has left must not lead the later
 * fragments of one whose first has just passed.
 */
static __always_inline void forget_first(const struct packet *pkt)
{
	struct flow_key key = fragment_key(pkt);

	bpf_map_delete_elem(&fragments, &key);
}

static __always_inline __u32 follow_first(const struct packet *pkt, const struct backend **backend)
{
	struct flow_key key = fragment_key(pkt);
	struct first_fragment *first = bpf_map_lookup_elem(&fragments, &key);
	__u64 now = bpf_ktime_get_ns();

	if (!first || now - first->seen > FRAGMENT_TIME) {
		if (!passes(&key, now))
			bpf_map_update_elem(&passed_frags, &key, &now, 0);
		return OUTCOME_FRAGMENT;
	}
	*backend = &first->backend;
	return aim(*backend) ? 0 : OUTCOME_NO_DEVICE;
}

#endif
