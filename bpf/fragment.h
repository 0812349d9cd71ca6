/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Only the first fragment of a datagram has ports. The program remembers where it went, and the
 * later fragments follow it, even if the rules have changed. A program cannot hold a packet back,
 * so a later fragment that arrives before the first one passes. Then all of the datagram passes:
 * otherwise the server would wait for one part, and this host for the other.
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
static __always_inline bool remember_first(const struct packet *pkt, const struct backend *backend)
{
	struct flow_key key = fragment_key(pkt);
	struct first_fragment value = {.seen = bpf_ktime_get_ns(), .backend = *backend};

	if (has_passed(&key, value.seen))
		return false;
	bpf_map_update_elem(&fragments, &key, &value, 0);
	return true;
}

/*
 * For a first fragment that passes: its later fragments must not follow an earlier datagram with
 * the same identification.
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
		if (!has_passed(&key, now))
			bpf_map_update_elem(&passed_frags, &key, &now, 0);
		return OUTCOME_FRAGMENT;
	}
	*backend = &first->backend;
	return prepare_redirect(*backend) ? 0 : OUTCOME_NO_DEVICE;
}

#endif
