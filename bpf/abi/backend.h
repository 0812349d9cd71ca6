/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef __ABI_BACKEND_H__
#define __ABI_BACKEND_H__

#include "vmlinux.h"

/* Where a packet is sent, and what is rewritten in it. */
struct backend {
	__be32 addr[4]; /* new destination; IPv4 in the first word, the others zero */
	__u32 ifindex;	/* egress device, and its key in the egress map */
	__u32 counter;	/* bank * BANK_COUNTERS + index; an update keeps it */
	__u8 frame[12]; /* destination and source MAC: the first bytes of the frame sent */
	__be16 port;	/* new destination port; 0: unchanged */
	__be16 vlan;	/* VLAN identifier, with BACKEND_PUSH_VLAN */
	__u16 weight;	/* for the command */
	__u16 flags;	/* BACKEND_* */
	__be32 snat[4]; /* new source, with BACKEND_SNAT */
	__u32 zero;
};
#define INLINE_WORDS 11 /* of 4 bytes, before snat: what a rule holds of its only backend */
/* The egress device, or the reader behind it, completes partial L4 checksums. */
#define BACKEND_COMPLETES_CHECKSUM 1
#define BACKEND_KEEP_IP		   2
#define BACKEND_SNAT		   4
#define BACKEND_DECREMENT_TTL	   8
#define BACKEND_PUSH_VLAN	   16
#define BACKEND_POP_VLAN	   32
#define BACKEND_IPV6		   64 /* for the command; the program has it in the rule's key */

#define LOCATOR_LEN 128 /* with the final NUL */

/* How the command finds a backend's adjacency again, as text. The key is the backend's counter. */
struct locator {
	char text[LOCATOR_LEN];
};

_Static_assert(sizeof(struct backend) == 64, "backend");
_Static_assert(__builtin_offsetof(struct backend, snat) == INLINE_WORDS * 4, "backend's snat");
_Static_assert(sizeof(struct locator) == LOCATOR_LEN, "locator");

#endif
