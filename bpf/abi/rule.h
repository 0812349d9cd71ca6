/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which packets a rule takes, and the line that says what becomes of them. */
#ifndef __ABI_RULE_H__
#define __ABI_RULE_H__

#include "vmlinux.h"

#define FAMILY_IPV4 4
#define FAMILY_IPV6 6

/*
 * The part of a match that says which fields of a packet are compared, and how: a packet is looked
 * up once for each probe that rules for its protocol and port have. Rules with the same probe are
 * told apart by a hash of the rest of the match.
 */
struct probe {
	__u16 first;  /* destination ports, both ends included; 0 to 65535: any */
	__u16 last;   /* in the CPU's byte order */
	__u8 proto;   /* IPPROTO_*; PROTO_ANY */
	__u8 dst_len; /* of the destination's prefix, in bits; 0: any destination */
	__u8 src_len;
	__u8 flags; /* PROBE_* */
};
#define PROTO_ANY	 255 /* IPPROTO_RAW, which no packet has on the wire */
#define PROBE_IN	 1   /* the interface is compared */
#define PROBE_INNER_VLAN 2   /* the inner tag is compared; frames without one don't match */
#define PROBE_IPV6	 4   /* for the command; the program has it in the packet */

/* Where a packet has to come from, beside its addresses. */
struct place {
	__u32 ifindex;	  /* of the interface, with PROBE_IN; otherwise 0 */
	__u16 vlan;	  /* identifier of the outer tag; 0: untagged, or only a priority */
	__u16 inner_vlan; /* with PROBE_INNER_VLAN; otherwise 0 */
};

/*
 * A rule. Those of IPv4 take half a line, and those of IPv6 a whole one.
 *
 * The addresses that rules announce stand among the rules, too, so that they come and go with them:
 * as a rule with the protocol PROTO_ANNOUNCED, the destination, the place, and nothing else of the
 * match. Its target is 0, and its counter says how many rules announce the address there.
 */
#define PROTO_ANNOUNCED 254

struct rule4 {
	struct probe probe;
	struct place place;
	__be32 src; /* host bits are zero */
	__be32 dst;
	__u32 target;  /* line of its struct action or struct set */
	__u32 counter; /* of its only action; UNATTRIBUTED for a set, whose members have their own
			*/
};

struct rule6 {
	struct probe probe;
	struct place place;
	__be32 src[4];
	__be32 dst[4];
	__u32 target;
	__u32 counter;
	__u32 unused[2];
};

_Static_assert(sizeof(struct probe) == 8, "probe");
_Static_assert(sizeof(struct place) == 8, "place");
_Static_assert(sizeof(struct rule4) == 32, "rule4");
_Static_assert(sizeof(struct rule6) == 64, "rule6");

#endif
