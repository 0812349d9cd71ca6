/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which packets a rule takes, and which backends it has for them. */
#ifndef __ABI_RULE_H__
#define __ABI_RULE_H__

#include "vmlinux.h"

#include "abi/backend.h"
#include "abi/limits.h"

#define FAMILY_IPV4 4
#define FAMILY_IPV6 6

/* A rule's match. A packet is looked up once for each prefix length of its service. */
struct rule_key {
	__be32 saddr[4]; /* source prefix, host bits zero; IPv4 in the first word */
	__be16 port;	 /* destination port */
	__u16 vlan;	 /* identifier of the outer tag; 0: untagged, or only a priority */
	__u8 proto;	 /* IPPROTO_* */
	__u8 family;	 /* FAMILY_* */
	__u8 prefixlen;	 /* in bits */
	__u8 zero;
};

/* A rule's match without the source: rules of one service differ in their source alone. */
struct service_key {
	__be16 port;
	__u16 vlan;
	__u8 proto;
	__u8 family;
	__u16 zero;
};

/*
 * The prefix lengths among the rules of a service. Bit n % 64 of word n / 64 stands for prefixes
 * that are n bits shorter than an address, so the lowest bit set is the longest prefix. A bit
 * without a rule costs a lookup in vain; a rule without its bit would never be found, so the
 * command sets the bit first.
 */
struct prefix_lengths {
	__u64 lengths[3];
};

/*
 * A rule holds its only backend itself, or names a set of backends. A set is needed for several
 * backends, and for one with a new source address, which does not fit: so the many small rules stay
 * small. An update writes a new set and then this value, so that a packet sees all of the old
 * backends or all of the new ones. One change is made in place: when the index of an unregistered
 * device goes to another device, the backends that had it lose it (ifindex 0).
 */
struct rule {
	__u32 set; /* 0: no set. The lowest 8 bits are the number of backends in it */
	__u32 inline_backend[INLINE_WORDS]; /* the first bytes of a struct backend, up to snat */
};

/* Key of the maps members (index: 0 to backends - 1) and maglev (index: chunk). */
struct set_key {
	__u32 set;
	__u32 index;
};

struct maglev_chunk {
	__u8 slot[MAGLEV_CHUNK]; /* index of a backend in its set */
};

_Static_assert(sizeof(struct rule_key) == 24, "rule_key");
_Static_assert(sizeof(struct service_key) == 8, "service_key");
_Static_assert(sizeof(struct prefix_lengths) == 24, "prefix_lengths");
_Static_assert(sizeof(struct rule) == 48, "rule");
_Static_assert(sizeof(struct set_key) == 8, "set_key");
_Static_assert(sizeof(struct maglev_chunk) == MAGLEV_CHUNK, "maglev_chunk");

#endif
