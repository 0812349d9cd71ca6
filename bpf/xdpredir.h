/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The ABI between the XDP program and the command: keys, values and limits of
 * the pinned maps. No implicit padding; __uN types only. A change to anything
 * in here needs a new XDPREDIR_ABI: it is part of the pins' path.
 */
#ifndef __XDPREDIR_H__
#define __XDPREDIR_H__

#define XDPREDIR_ABI 1

/* Limits. Each is met with an error that names it, never in silence. */
#define MAX_RULES	   65536  /* matches in one namespace */
#define MAX_BACKENDS	   65536  /* backends of all rules together */
#define MAX_EGRESS	   16384  /* distinct egress devices */
#define MAX_RULE_BACKENDS  255	  /* backends of one rule */
#define MAGLEV_SLOTS	   16381  /* prime, and the same for every rule: see balance.h */
#define MAGLEV_CHUNK	   1024	  /* slots in one value of the maglev map */
#define MAGLEV_CHUNKS	   16	  /* values that one rule needs there */
#define MAX_MAGLEV_CHUNKS  262144 /* MAGLEV_CHUNKS for each of 16,384 balanced rules */
#define INTERFACE_NAME_LEN 16	  /* IFNAMSIZ, with the final NUL */

/* What a rule matches. The trie compares the bytes after prefixlen in order. */
struct rule_key {
	__u32 prefixlen; /* in bits: RULE_KEY_FIXED_BITS and the source's prefix length */
	__u8 proto;	 /* IPPROTO_* */
	__u8 zero;
	__be16 port;  /* destination port */
	__be32 saddr; /* source prefix, host bits zero */
};
#define RULE_KEY_FIXED_BITS 32
#define RULE_KEY_BITS	    64

struct backend {
	__be32 addr;
	__u32 ifindex; /* egress device, and its key in the egress map */
	__u32 counter; /* key in the counters map; kept when the backend is updated */
	__u32 weight;
	__u8 frame[12]; /* the first bytes of the frame sent: destination and source MAC */
	__u32 flags;	/* BACKEND_* */
};

/*
 * A rule has its only backend in itself, or names a set of them. A set never
 * changes once a rule names it: an update writes a new one and then this value, so
 * a packet sees all or nothing.
 */
struct rule {
	__u32 set;
	__u16 backends;	     /* 1 to MAX_RULE_BACKENDS */
	__u16 prefixlen;     /* of its key: a trie's lookup doesn't tell which prefix matched */
	struct backend only; /* where there is one */
};

/* Key of both backends (index: 0 to backends - 1) and maglev (index: chunk). */
struct set_key {
	__u32 set;
	__u32 index;
};

/* The egress device, or who reads behind it, completes partial L4 checksums. */
#define BACKEND_COMPLETES_CHECKSUM 1

struct maglev_chunk {
	__u8 slot[MAGLEV_CHUNK]; /* index of a backend */
};

/* Totals; bytes are those of the Ethernet frame as XDP sees it on arrival. */
struct counter {
	__u64 packets;
	__u64 bytes;
};

/* In .rodata of each interface's own load of the program. */
struct interface {
	__u32 ifindex;
	__u32 mode; /* MODE_* */
	char name[INTERFACE_NAME_LEN];
};
#define MODE_NATIVE 1
#define MODE_SKB    2

#define ACTIONS 5 /* XDP_ABORTED to XDP_REDIRECT: keys of the actions map */

_Static_assert(sizeof(struct rule_key) == 12, "rule_key");
_Static_assert(sizeof(struct rule) == 40, "rule");
_Static_assert(sizeof(struct set_key) == 8, "set_key");
_Static_assert(sizeof(struct backend) == 32, "backend");
_Static_assert(sizeof(struct maglev_chunk) == MAGLEV_CHUNK, "maglev_chunk");
_Static_assert(sizeof(struct counter) == 16, "counter");
_Static_assert(sizeof(struct interface) == 24, "interface");
_Static_assert(MAGLEV_SLOTS <= MAGLEV_CHUNK * MAGLEV_CHUNKS, "a maglev table fits its chunks");

#endif
