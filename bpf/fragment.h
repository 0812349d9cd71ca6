/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Fragments: only a datagram's first one has ports. Where it went is remembered, and
 * the later ones follow it, whatever the rules say by then.
 */
#ifndef __FRAGMENT_H__
#define __FRAGMENT_H__

/* How long Linux waits for the rest of a datagram (ip_frag_time); RFC 8200 allows 60 s. */
#define FRAGMENT_TIME 30000000000ull /* ns */

static __always_inline struct flow_key fragment_key(const struct packet *pkt)
{
	struct flow_key key = pkt->flow;

	key.word[0] = pkt->identification | (__u64)pkt->vlan << 32 | (__u64)pkt->family << 56;
	if (pkt->family == FAMILY_IPV4) /* RFC 791; RFC 8200 leaves the protocol out */
		key.word[0] |= (__u64)pkt->proto << 48;
	return key;
}

static __always_inline void remember_fragment(const struct packet *pkt,
					      const struct backend *backend)
{
	struct flow_key key = fragment_key(pkt);
	struct fragmented value = {.seen = bpf_ktime_get_ns(), .backend = *backend};

	bpf_map_update_elem(&fragments, &key, &value, 0);
}

static __always_inline __u32 follow_first(const struct packet *pkt, const struct backend **backend)
{
	struct flow_key key = fragment_key(pkt);
	struct fragmented *first = bpf_map_lookup_elem(&fragments, &key);

	if (!first || bpf_ktime_get_ns() - first->seen > FRAGMENT_TIME)
		return OUTCOME_FRAGMENT;
	*backend = &first->backend;
	return aim(*backend) ? 0 : OUTCOME_NO_DEVICE;
}

#endif
