/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* From headers to a rule: the longest source prefix for the protocol and port. */
#ifndef __MATCH_H__
#define __MATCH_H__

static __always_inline struct rule *match(const struct packet *pkt)
{
	struct rule_key key = {
		.prefixlen = RULE_KEY_BITS,
		.proto = pkt->ip->protocol,
		.port = pkt->dport,
		.saddr = pkt->ip->saddr,
	};

	return bpf_map_lookup_elem(&rules, &key);
}

#endif
