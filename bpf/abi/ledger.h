/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef __ABI_LEDGER_H__
#define __ABI_LEDGER_H__

#include "vmlinux.h"
#include "abi/limits.h"

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
	__u32 counter; /* of the backend, or UNATTRIBUTED */
	__u32 reason;  /* FAILURE_* */
};
#define UNATTRIBUTED 2147483647 /* beyond all banks: counted nowhere */

#define FAILURE_NOT_SUPPORTED 0 /* EOPNOTSUPP: by the device, or by its peer */
#define FAILURE_MTU	      1 /* EMSGSIZE */
#define FAILURE_LINK_DOWN     2 /* ENETDOWN, ENXIO */
#define FAILURE_NO_DEVICE     3 /* EINVAL, ENODEV: gone since the program looked */
#define FAILURE_QUEUE_FULL    4 /* ENOSPC, ENOBUFS, or frames left over without an error */
#define FAILURE_OTHER	      5
#define FAILURES	      6

_Static_assert(sizeof(struct sent) == 8, "sent");
_Static_assert(sizeof(struct ledger) == 24 + 8 * LEDGER_FRAMES, "ledger");
_Static_assert(sizeof(struct failure_key) == 8, "failure_key");

#endif
