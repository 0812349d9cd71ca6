/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef __ABI_POLICY_H__
#define __ABI_POLICY_H__

#include "vmlinux.h"

/*
 * What becomes of the frames that arrive at an interface and that no rule matches. It is one
 * aligned word, which the command writes at once: a packet sees the old policy or the new one.
 * There is one for each slot of rule sets, so that a change of rules, policies and interfaces is
 * published with one write, too: that of the live slot's number.
 */
struct policy {
	__u16 kind;    /* POLICY_* */
	__u16 flags;   /* POLICY_COMPLETES_CHECKSUM and what follows */
	__u32 ifindex; /* device of POLICY_FORWARD, and its key in the egress map; 0: gone */
};
#define POLICY_PASS    0
#define POLICY_DROP    1
#define POLICY_FORWARD 2

/* The device, or the reader behind it, completes partial L4 checksums. */
#define POLICY_COMPLETES_CHECKSUM 1
/*
 * The command attached the interface for answers alone: see struct interface. Rules take nothing
 * there, or the server's own requests would meet them.
 */
#define POLICY_ANSWERS_ONLY 2
/*
 * For the command: a change that made rules need such an interface, or need it no longer, has not
 * come to its end.
 */
#define POLICY_UNSETTLED 4
/*
 * With the slot's rule set, the interface is not attached: all frames pass, and are not counted.
 * The program is there before the change that attaches it is published, and still after the one
 * that detaches it. Meanwhile LIVE_DORMANT has programs look.
 */
#define POLICY_DORMANT 8

_Static_assert(sizeof(struct policy) == 8, "policy");

#endif
