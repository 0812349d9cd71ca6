/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * How rules lie in memory. Everything is made of lines of 64 bytes, which lie in banks: the map
 * `lines` has the banks, a line's number is bank * BANK_LINES + index, and line 0 is nothing.
 *
 * There are two slots, each with a whole rule set: packets are decided by the live one, and the
 * command writes the next one into the other. One write to the map `live` makes the other slot
 * live. What a packet can reach by the live slot does not change; lines are used again only once
 * no packet is on its way through them. So a packet sees one rule set or the other, whole. The
 * number of the live slot is read once for a packet, and each address that is read after that
 * depends on it, which keeps the order on weakly ordered processors, too.
 *
 * The way of a packet through it:
 *   ports[slot][protocol][port] -> service -> rule (in the service itself where it is the only one;
 *   otherwise for each probe a bucket of the hash table, from the most specific probe to the least)
 *   -> action; or, for several backends, set -> a byte of its Maglev table -> action
 */
#ifndef __ABI_RULESET_H__
#define __ABI_RULESET_H__

#include "vmlinux.h"

#include "abi/rule.h"

struct line {
	__u64 word[8];
};

/* A slot's rule set. What comes after the guards is for the command. */
struct ruleset {
	__u64 revision;	   /* one more with each published rule set; 0: it is being written */
	__u64 hash_key;	   /* random, the same for all revisions */
	__u32 buckets;	   /* first line of the hash table; 0: no rule was ever stored */
	__u32 bucket_mask; /* number of buckets - 1; a power of two */
	__u32 guards;	   /* first line of the guards */
	__u32 guard_mask;  /* number of words - 1; a power of two */
	__u32 guarded;	   /* rules whose bits were set since the guards were made */
	__u32 half;	   /* a line with a rule of IPv4 in its first half alone; 0: none */
	__u32 kept;	   /* lines that were in use after the last sweep */
	__u32 rules;	   /* how many */
	__u32 backends;	   /* of all rules; a rule without backends counts as one */
	__u32 balanced;	   /* rules with several backends */
	__u32 members;	   /* backends of those */
	__u32 locators;	   /* backends that have one */
	__u32 remembering; /* rules that remember connections */
	__u32 announced;   /* announced addresses, which stand among the rules */
	__u32 unused[14];
};

/* Bits of the only entry of the map live. */
#define LIVE_SLOT	 1
#define LIVE_CONNECTIONS 2 /* a rule of that slot remembers connections */
#define LIVE_DORMANT	 4 /* an interface may be dormant: see POLICY_DORMANT */

/*
 * Classes of the map `ports`: a service's number is slot * SLOT_PORTS + class * PORTS + port. For
 * the last two, the protocol's number stands in place of the port. The services' lines are packed,
 * as the kernel rounds the size of a value up to 8 bytes.
 */
#define PORTS	     65536
#define PORTS_UDP    0 /* of IPv4; for IPv6, PORTS_IPV6 is added */
#define PORTS_TCP    1
#define PORTS_SCTP   2
#define PORTS_IPV6   3
#define PORTS_OTHER4 6
#define PORTS_OTHER6 7
/* Of these, in place of a protocol's number: the service of the announced addresses. */
#define PORT_ANNOUNCED 256
#define SLOT_PORTS     524288 /* PORTS * 8 */
#define PACKED_PORTS   16
struct port_lines {
	__u32 line[PACKED_PORTS]; /* of services; 0: no rule takes such a packet */
};

/* The rules that a protocol and port can have. Its probes are sorted, the most specific first. */
#define SERVICE_PROBES 1
#define SERVICE_ONLY   2
#define LINE_PROBES    6
struct service {
	__u8 kind; /* SERVICE_PROBES */
	__u8 zero;
	__u16 count; /* of the probes in this line */
	__u32 next;  /* line of further probes, a struct service, too; 0: none */
	__u32 unused[2];
	struct probe probe[LINE_PROBES];
};

/*
 * The only rule of a service, where it has no more than this. IPv4: addresses are compared under
 * masks. IPv6: only the source or only the destination has a prefix; other rules stand in the hash
 * table.
 */
struct only_rule {
	__u8 kind;     /* SERVICE_ONLY */
	__u8 hash;     /* of the set */
	__u16 size;    /* of the set; 0: the target is an action */
	__u32 target;  /* line of the action, or of the set's first member */
	__u32 maglev;  /* first line of the set's Maglev table */
	__u32 counter; /* where size is 0 */
	struct place place;
	struct probe probe;
	__u32 rule; /* its number: see struct entry */
	__u32 unused;
	__be32 addr[4]; /* IPv4: source and destination, then their masks; IPv6: the prefix */
	__u32 unused2[2];
};

/*
 * The hash table. A rule stands in the bucket that its hash says, or, where that is full, in one of
 * the next MAX_CHAIN - 1. The hash has these parts, from its lowest bit: 24 bits for the bucket,
 * 20 for the word of the guards, 18 for three bits in it; the upper 32 are compared, but for the
 * lowest two of them.
 */
#define BUCKET_ENTRIES 7
#define MAX_CHAIN      8
struct entry {
	__u32 tag;  /* upper half of the hash; its lowest two bits say which slots have the rule */
	__u32 rule; /* line * 2, + 1 for the second half of the line; 0: none */
};
#define TAG_SLOTS 3

struct bucket {
	__u32 chained; /* rules that found no room up to here, and stand in a later bucket; never
			  too low */
	__u32 unused;
	struct entry entry[BUCKET_ENTRIES];
};

/* Which rules have a probe, by slot; for the command. */
struct probe_count {
	__u32 rules[2];	  /* how many */
	__u32 numbers[2]; /* the exclusive or of their numbers: of only one rule, its number */
};

_Static_assert(sizeof(struct line) == 64, "line");
_Static_assert(sizeof(struct ruleset) == 128, "ruleset");
_Static_assert(SLOT_PORTS == PORTS * 8, "eight classes");
_Static_assert(sizeof(struct service) == 64, "service");
_Static_assert(sizeof(struct only_rule) == 64, "only_rule");
_Static_assert(sizeof(struct entry) == 8, "entry");
_Static_assert(sizeof(struct bucket) == 64, "bucket");
_Static_assert(sizeof(struct port_lines) == 64, "port_lines");
_Static_assert(sizeof(struct probe_count) == 16, "probe_count");

#endif
