/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What becomes of a packet: to one backend, out of a device, to the stack, or nowhere. */
#ifndef __ABI_ACTION_H__
#define __ABI_ACTION_H__

#include "vmlinux.h"

/* The first byte of a line that a rule names says what the line is. */
#define ACTION_REDIRECT 1 /* to a server; the packet is rewritten for it */
#define ACTION_FORWARD	2 /* out of a device; only MAC addresses may change */
#define ACTION_PASS	3
#define ACTION_DROP	4
#define ACTION_BALANCE	5 /* to one of several backends: the line is a struct set */
/* These two are in no line: the program makes them for the answers of connections. */
#define ACTION_ANSWER	 6 /* to the client, like a redirect */
#define ACTION_HAND_OVER 7 /* to the stack, which sends the packet to the client */
/* This one is a redirect for connections that stand already. No new flow begins there. */
#define ACTION_DRAINING 8
/* And this one is a backend that somebody has marked down: no packet goes there. */
#define ACTION_DOWN 9

/* All that is needed to send a packet on. Once a rule names it, nothing changes in it but ifindex.
 */
struct action {
	__u8 kind;	/* ACTION_* */
	__u8 pops;	/* VLAN tags that are removed, 0 to 2 */
	__u16 flags;	/* REWRITE_* */
	__u32 ifindex;	/* egress device, and its key in the egress map; 0: it is gone */
	__u8 frame[12]; /* destination and source MAC: the first bytes of the frame sent */
	__u32 counter;	/* of a backend of several; otherwise the rule has it, and this is
			   UNATTRIBUTED */
	__be32 addr[4]; /* new destination; IPv4 in the first word, the others zero */
	__be32 snat[4]; /* new source, with REWRITE_SNAT */
	__be16 port;	/* new destination port; 0: unchanged */
	__be16 vlan;	/* VLAN identifier, with REWRITE_PUSH_VLAN */
	__u16 weight;	/* for the command */
	__u8 too_long;	/* TOO_LONG_* */
	__u8 hash;	/* for the command: the rule's HASH_* */
};

/* The egress device, or the reader behind it, completes partial L4 checksums. */
#define REWRITE_COMPLETES_CHECKSUM 1
#define REWRITE_KEEP_IP		   2
#define REWRITE_SNAT		   4
#define REWRITE_DECREMENT_TTL	   8
#define REWRITE_PUSH_VLAN	   16
#define REWRITE_MAC		   32 /* of a forward: the frame gets the MAC addresses */
#define REWRITE_INNER_VLAN	   128 /* the rule names the inner tag, so that tags may be removed */
#define REWRITE_IPV6		   64	/* for the command; the program has it in the packet */
#define REWRITE_REPLY_NAT	   256	/* answers are translated: the connection is remembered */
#define REWRITE_SNAT_AUTO	   1024 /* for the command: it has found the new source itself */
#define REWRITE_STICKY		   512 /* the flow keeps its backend: the connection is remembered */
#define REWRITE_ANNOUNCE	   4096 /* for the command: the rule announces its destination */
#define REWRITE_TO_SOCKET	   2048 /* of a pass: a socket takes the packet, if one reads */

/* What becomes of a packet that is longer than the egress device's MTU. */
#define TOO_LONG_ICMP 0 /* its sender is told: RFC 1191, RFC 8201 */
#define TOO_LONG_PASS 1
#define TOO_LONG_DROP 2

/* What of a packet chooses one of several backends. */
#define HASH_FLOW   0
#define HASH_SOURCE 1 /* its source address alone */
#define HASH_PACKET 2 /* nothing: each packet gets any of them */

/* Several backends: their actions lie one behind the other. */
struct set {
	__u8 kind;     /* ACTION_BALANCE */
	__u8 hash;     /* HASH_* */
	__u16 size;    /* how many backends */
	__u32 members; /* line of the first one's action */
	__u32 maglev;  /* first line of the Maglev table: MAGLEV_SLOTS bytes, each an index of a
			  backend */
	__u32 unused[13];
};

#define LOCATOR_LEN 128 /* with the final NUL */

/* How the command finds a backend's adjacency again, as text. The key is the backend's counter. */
struct locator {
	char text[LOCATOR_LEN];
};

_Static_assert(sizeof(struct action) == 64, "action");
_Static_assert(__builtin_offsetof(struct action, addr) == 24, "action's addr");
_Static_assert(sizeof(struct set) == 64, "set");
_Static_assert(sizeof(struct locator) == LOCATOR_LEN, "locator");

#endif
