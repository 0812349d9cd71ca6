/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which packets a rule takes, and the backends that it has for them. */
#ifndef __ABI_RULE_H__
#define __ABI_RULE_H__

#include "vmlinux.h"
#include "abi/backend.h"
#include "abi/limits.h"

/* What a rule matches. A packet is looked up once for each prefix length of its service. */
struct rule_key {
	__be32 saddr[4]; /* source prefix, host bits zero; IPv4 in the first word */
	__be16 port;	 /* destination port */
	__u16 vlan;	 /* VLAN identifier of the outer tag; 0: untagged, or priority-tagged */
	__u8 proto;	 /* IPPROTO_* */
	__u8 family;	 /* FAMILY_* */
	__u8 prefixlen;	 /* in bits */
	__u8 zero;
};
#define FAMILY_IPV4 4
#define FAMILY_IPV6 6

/* What rules have in common that differ in their source alone. */
struct service_key {
	__be16 port;
	__u16 vlan;
	__u8 proto;
	__u8 family;
	__u16 zero;
};

/*
 * Bit n % 64 of word n / 64: there may be rules whose prefix is n bits shorter than an
 * address, so that the lowest bit is the longest prefix.
 */
struct prefix_lengths {
	__u64 lengths[3];
};

/*
 * A rule has its only backend in itself, or names a set of them: where there are more,
 * and where one has a source address, so that the many are small. A set never changes
 * once a rule names it: an update writes a new one and then this value, so a packet
 * sees all or nothing.
 */
struct rule {
	__u32 set; /* 0: none. The lowest 8 bits: how many backends it has */
	__u32 inline_backend[INLINE_WORDS]; /* the first bytes of a struct backend, up to snat */
};

/* Key of both members (index: 0 to backends - 1) and maglev (index: chunk). */
struct set_key {
	__u32 set;
	__u32 index;
};

struct maglev_chunk {
	__u8 slot[MAGLEV_CHUNK]; /* index of a backend */
};

_Static_assert(sizeof(struct rule_key) == 24, "rule_key");
_Static_assert(sizeof(struct service_key) == 8, "service_key");
_Static_assert(sizeof(struct prefix_lengths) == 24, "prefix_lengths");
_Static_assert(sizeof(struct rule) == 48, "rule");
_Static_assert(sizeof(struct set_key) == 8, "set_key");
_Static_assert(sizeof(struct maglev_chunk) == MAGLEV_CHUNK, "maglev_chunk");

#endif
