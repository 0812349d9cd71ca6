/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The ABI between the XDP program and the command: keys, values and limits of
 * the pinned maps. No implicit padding; __uN types only. A change to anything
 * in here needs a new XDPREDIR_ABI: it is part of the pins' path.
 */
#ifndef __XDPREDIR_H__
#define __XDPREDIR_H__

#define XDPREDIR_ABI 5

/* Limits. Each is met with an error that names it, never in silence. */
#define MAX_RULES	  1048576 /* matches in one namespace */
#define MAX_BACKENDS	  1048576 /* of all rules */
#define MAX_SERVICES	  65536	  /* distinct IP version, protocol, port and VLAN among them */
#define MAX_BALANCED	  16384	  /* rules with more than one backend */
#define MAX_MEMBERS	  65536	  /* backends in sets */
#define MAX_EGRESS	  16384	  /* distinct egress devices */
#define MAX_ORIGINS	  65536	  /* backends that remember how they were found */
#define MAX_RULE_BACKENDS 255	  /* backends of one rule */

/*
 * An update writes a batch of new sets before it frees the old ones, and gives new
 * backends their counters and origins. The maps have room for that beyond the limits.
 */
#define BATCH_RULES    1024 /* the most in one batch */
#define BATCH_BACKENDS 4096 /* of those rules */

/* What the maps hold: the limits, and a batch. */
#define ROOM_MEMBERS  69632 /* MAX_MEMBERS + BATCH_BACKENDS */
#define ROOM_CHUNKS   69632 /* MAGLEV_CHUNKS * (MAX_BALANCED + BATCH_RULES) */
#define ROOM_ORIGINS  69632 /* MAX_ORIGINS + BATCH_BACKENDS */
#define COUNTER_BANKS 257   /* maps of counters, each made when the others are full */
#define BANK_COUNTERS 4096  /* of each CPU in one of them */

#define MAGLEV_SLOTS	   16127 /* prime, and the same for every rule: see balance.h */
#define MAGLEV_CHUNK	   4032	 /* slots in one value of the maglev map, 4 KB in the kernel */
#define MAGLEV_CHUNKS	   4	 /* values that one rule needs there */
#define BANK_BITMAP	   512	 /* bytes: BANK_COUNTERS bits */
#define ORIGIN_LEN	   128	 /* bytes of text, with the final NUL */
#define LEDGER_FRAMES	   512	 /* more than the kernel takes in one poll, 64 by default */
#define MAX_FAILURES	   65536 /* backends and reasons */
#define FLOW_SETS	   4096	 /* of the flow cache of one CPU */
#define FLOW_WAYS	   2	 /* flows in a set */
#define MAX_FRAGMENTED	   8192	 /* fragmented datagrams remembered at a time */
#define MAX_PASSED	   8192	 /* of those that pass */
#define MAX_TAGS	   2	 /* VLAN tags: 802.1Q, 802.1ad */
#define MAX_EXTENSIONS	   8	 /* IPv6 extension headers before UDP or TCP */
#define MAX_L4_OFFSET	   1024	 /* bytes of headers before UDP or TCP */
#define INTERFACE_NAME_LEN 16	 /* IFNAMSIZ, with the final NUL */

/* The outcomes: one for each way out of the program, counted by interface and CPU. */
#define OUTCOME_REDIRECTED	  0
#define OUTCOME_NO_RULE		  1
#define OUTCOME_NOT_IP		  2
#define OUTCOME_NOT_UDP_TCP	  3
#define OUTCOME_TRUNCATED	  4  /* shorter than its headers say */
#define OUTCOME_MALFORMED	  5  /* headers that contradict themselves */
#define OUTCOME_TAGS		  6  /* more than MAX_TAGS */
#define OUTCOME_EXTENSION_HEADERS 7  /* beyond the bounds, or on the way to a further router */
#define OUTCOME_FRAGMENT	  8  /* a later one, whose first one was not redirected */
#define OUTCOME_TTL		  9  /* at its end, and the rule decrements it */
#define OUTCOME_NO_DEVICE	  10 /* of any backend of the rule */
#define OUTCOME_TOO_LONG	  11 /* for the MTU of the backend's device */
#define OUTCOME_NO_HEADROOM	  12 /* for the VLAN tag; the only one that drops */
#define OUTCOME_LATE_FIRST	  13 /* a first fragment of a rule, after others that passed */
#define OUTCOMES		  14

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
struct service {
	__u64 lengths[3];
};

struct backend {
	__be32 addr[4]; /* IPv4 in the first word, the others zero */
	__u32 ifindex;	/* egress device, and its key in the egress map */
	__u32 counter;	/* bank * BANK_COUNTERS + index; kept when the backend is updated */
	__u8 frame[12]; /* the first bytes of the frame sent: destination and source MAC */
	__be16 port;	/* destination port; 0: as it was */
	__be16 vlan;	/* VLAN identifier, with BACKEND_PUSH_VLAN */
	__u16 weight;
	__u16 flags;	/* BACKEND_* */
	__be32 snat[4]; /* source address, with BACKEND_SNAT */
	__u32 zero;
};
#define BACKEND_WORDS 11 /* of 4 bytes, before snat */
/* The egress device, or who reads behind it, completes partial L4 checksums. */
#define BACKEND_COMPLETES_CHECKSUM 1
#define BACKEND_KEEP_IP		   2
#define BACKEND_SNAT		   4
#define BACKEND_DECREMENT_TTL	   8
#define BACKEND_PUSH_VLAN	   16
#define BACKEND_POP_VLAN	   32
#define BACKEND_IPV6		   64 /* for the command; the rule's key tells the program */

/*
 * A rule has its only backend in itself, or names a set of them: where there are more,
 * and where one has a source address, so that the many are small. A set never changes
 * once a rule names it: an update writes a new one and then this value, so a packet
 * sees all or nothing.
 */
struct rule {
	__u32 set;		   /* 0: none. The lowest 8 bits: how many backends it has */
	__u32 only[BACKEND_WORDS]; /* the first bytes of a struct backend, up to snat */
};

/* Key of both members (index: 0 to backends - 1) and maglev (index: chunk). */
struct set_key {
	__u32 set;
	__u32 index;
};

struct maglev_chunk {
	__u8 slot[MAGLEV_CHUNK]; /* index of a backend */
};

/*
 * Odd while a writer is at work: then nothing is taken from the flow cache or put
 * into it. A writer that was killed leaves it odd, which is slow but right.
 */
struct ruleset {
	__u64 generation;
};

/*
 * A flow, in the packet's byte order. word[0]: source and destination port, 16 bits
 * each from the lowest, VLAN identifier, 8 bits protocol, 8 bits family; then
 * source and destination address, for IPv4 in word[1].
 */
struct flow_key {
	__u64 word[5];
};

/* What rules said about a flow, as long as the rules are of this generation; odd: about none. */
struct flow {
	__u64 generation;
	struct flow_key key;
	struct backend backend;
};

struct flow_set {
	struct flow way[FLOW_WAYS];
};

/* Where the first fragment went; its key has the datagram's identification for the ports. */
struct fragmented {
	__u64 seen; /* CLOCK_MONOTONIC, ns */
	struct backend backend;
};

/* Totals; bytes are those of the Ethernet frame as XDP sees it on arrival. */
struct counter {
	__u64 packets;
	__u64 bytes;
};

/* The counters of a bank that backends have. For the command; the program doesn't ask. */
struct bank {
	__u8 bitmap[BANK_BITMAP];
};

/* How a backend was found, so that it can be found again. Key: its counter. For the command alone.
 */
struct origin {
	char text[ORIGIN_LEN];
};

/* Whose a frame is and where it goes; or frames handed over, see HANDED_OVER. */
struct sent {
	__u32 ifindex; /* egress device */
	__u32 counter; /* of the backend */
};
/* Plus a number: the device was handed that many of its frames, those that had waited longest. */
#define HANDED_OVER 0x80000000

/*
 * The ledger of one CPU, for what the kernel says of frames after the program has
 * redirected them. Natively they wait in bulks, and as long as one does no other
 * program's come: sent has those of the poll that it is at, until all were handed over.
 * In generic mode, the kernel hands over one frame at a time.
 */
struct ledger {
	__u32 program;	    /* its id: whose frames these are, */
	__u32 ingress;	    /* and its interface */
	__u32 taken;	    /* of sent, a ring */
	__u32 settled;	    /* of those: lost, handed over, or telling of that */
	__u32 only;	    /* in generic mode: counter of the last frame's backend, */
	__u32 only_program; /* and id of the program that chose it */
	struct sent sent[LEDGER_FRAMES];
};

/* What a failed redirect is counted under. */
struct failure_key {
	__u32 counter; /* of the backend, or NOBODYS */
	__u32 reason;  /* FAILURE_* */
};
#define NOBODYS 2147483647 /* beyond all banks: counted nowhere */

#define FAILURE_NOT_SUPPORTED 0 /* EOPNOTSUPP: by the device, or by its peer */
#define FAILURE_MTU	      1 /* EMSGSIZE */
#define FAILURE_LINK_DOWN     2 /* ENETDOWN, ENXIO */
#define FAILURE_NO_DEVICE     3 /* EINVAL, ENODEV: gone since the program looked */
#define FAILURE_QUEUE_FULL    4 /* ENOSPC, ENOBUFS, or frames left over without an error */
#define FAILURE_OTHER	      5
#define FAILURES	      6

/* In .rodata of each interface's own load of the program. */
struct interface {
	__u32 ifindex;
	__u32 mode;   /* MODE_* */
	__u32 frags;  /* 1: frames in several buffers come along (xdp.frags) */
	__u32 ledger; /* LEDGER_* */
	char name[INTERFACE_NAME_LEN];
};
#define MODE_NATIVE 1
#define MODE_SKB    2

#define LEDGER_ON	   0
#define LEDGER_UNWANTED	   1 /* attach --no-ledger */
#define LEDGER_UNAVAILABLE 2 /* the kernel has no BTF, or refused the tracing programs */

_Static_assert(sizeof(struct rule_key) == 24, "rule_key");
_Static_assert(sizeof(struct service_key) == 8, "service_key");
_Static_assert(sizeof(struct service) == 24, "service");
_Static_assert(sizeof(struct backend) == 64, "backend");
_Static_assert(__builtin_offsetof(struct backend, snat) == BACKEND_WORDS * 4, "backend's snat");
_Static_assert(sizeof(struct rule) == 48, "rule");
_Static_assert(sizeof(struct set_key) == 8, "set_key");
_Static_assert(sizeof(struct maglev_chunk) == MAGLEV_CHUNK, "maglev_chunk");
_Static_assert(sizeof(struct ruleset) == 8, "ruleset");
_Static_assert(sizeof(struct flow_key) == 40, "flow_key");
_Static_assert(sizeof(struct flow) == 112, "flow");
_Static_assert(sizeof(struct flow_set) == FLOW_WAYS * sizeof(struct flow), "flow_set");
_Static_assert(sizeof(struct fragmented) == 72, "fragmented");
_Static_assert(sizeof(struct counter) == 16, "counter");
_Static_assert(sizeof(struct bank) == BANK_BITMAP, "bank");
_Static_assert(sizeof(struct origin) == ORIGIN_LEN, "origin");
_Static_assert(sizeof(struct sent) == 8, "sent");
_Static_assert(sizeof(struct ledger) == 24 + 8 * LEDGER_FRAMES, "ledger");
_Static_assert(sizeof(struct failure_key) == 8, "failure_key");
_Static_assert(sizeof(struct interface) == 32, "interface");
_Static_assert(FLOW_WAYS == 2, "flow.h tries two");
_Static_assert(BANK_COUNTERS == BANK_BITMAP * 8, "a bit for each counter of a bank");
_Static_assert(ROOM_MEMBERS == MAX_MEMBERS + BATCH_BACKENDS, "room for a batch of members");
_Static_assert(ROOM_CHUNKS == MAGLEV_CHUNKS * (MAX_BALANCED + BATCH_RULES),
	       "room for a batch of tables");
_Static_assert(ROOM_ORIGINS == MAX_ORIGINS + BATCH_BACKENDS, "room for a batch of origins");
_Static_assert(MAX_BACKENDS + BATCH_BACKENDS == BANK_COUNTERS * COUNTER_BANKS,
	       "room for a batch of counters");
_Static_assert(MAX_RULE_BACKENDS <= BATCH_BACKENDS, "any rule fits a batch");
_Static_assert(MAGLEV_SLOTS <= MAGLEV_CHUNK * MAGLEV_CHUNKS, "a maglev table fits its chunks");

#endif
