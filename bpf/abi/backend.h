/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Where a packet goes, and what is rewritten in it. */
#ifndef __ABI_BACKEND_H__
#define __ABI_BACKEND_H__

#include "vmlinux.h"
#include "abi/limits.h"

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
#define INLINE_WORDS 11 /* of 4 bytes, before snat */
/* The egress device, or who reads behind it, completes partial L4 checksums. */
#define BACKEND_COMPLETES_CHECKSUM 1
#define BACKEND_KEEP_IP		   2
#define BACKEND_SNAT		   4
#define BACKEND_DECREMENT_TTL	   8
#define BACKEND_PUSH_VLAN	   16
#define BACKEND_POP_VLAN	   32
#define BACKEND_IPV6		   64 /* for the command; the rule's key tells the program */

/* How a backend was found, so that it can be found again. Key: its counter. For the command alone.
 */
struct locator {
	char text[LOCATOR_LEN];
};

_Static_assert(sizeof(struct backend) == 64, "backend");
_Static_assert(__builtin_offsetof(struct backend, snat) == INLINE_WORDS * 4, "backend's snat");
_Static_assert(sizeof(struct locator) == LOCATOR_LEN, "locator");

#endif
