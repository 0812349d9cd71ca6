/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The ledger: what the kernel lost of the redirected frames. The XDP program writes down each frame
 * that it redirects; the tracing programs see what the kernel does with it, on the same CPU.
 */
#ifndef __ABI_LEDGER_H__
#define __ABI_LEDGER_H__

#include "vmlinux.h"

#define LEDGER_FRAMES 512   /* more than the kernel takes in one NAPI poll, by default 64 */
#define MAX_FAILURES  65536 /* of backend, reason and error */

/* A redirected frame; or, with FLUSHED, a mark. */
struct ledger_entry {
	__u32 ifindex; /* egress device, which is below CAPTURED */
	__u32 counter; /* of the backend */
};
/* Added to ifindex, or to generic_program: a capture wants to know whether the frame is lost. */
#define CAPTURED 0x80000000
/* Added to a number in counter: the device was handed its oldest frames, as many as the number. */
#define FLUSHED 0x80000000

/*
 * The ledger of one CPU. In native mode, the kernel queues frames by egress device and hands each
 * queue over when it is full or the poll ends. Only one program's frames wait at a time, so the
 * ring has the frames of the present poll, until all were handed over. In generic mode, the kernel
 * hands over one frame at a time.
 */
struct ledger {
	__u32 program;	       /* id of the program whose frames are in the ring */
	__u32 ingress;	       /* the interface of that program */
	__u32 appended;	       /* entries written to the ring so far */
	__u32 retired;	       /* of these: frames lost or handed over, and marks */
	__u32 generic_counter; /* in generic mode: of the last frame's backend */
	__u32 generic_program; /* id of the program that redirected that frame; below CAPTURED */
	struct ledger_entry ring[LEDGER_FRAMES];
};

/* Captures that can be told of lost frames at the same time. */
#define TELLERS 16

/*
 * Which captures have captured what is in the ledger of a CPU; below TELLERS. Generic mode has one
 * of its own: while frames of native mode wait, others can pass and be redirected there.
 */
struct telling {
	__u32 teller;	      /* of those in the ring */
	__u32 generic_teller; /* of generic mode's last one */
};

/* The numbers that a capture gave the frames of a CPU's ledger that are CAPTURED. */
struct captured {
	__u32 generic;
	__u32 ring[LEDGER_FRAMES];
};

/* Under which a lost frame is counted. */
struct failure_key {
	__u32 counter; /* of the backend, or UNATTRIBUTED */
	__u16 reason;  /* FAILURE_*, and whether it is BY_DROP_REASON */
	__u16 error;   /* as the kernel gave it; 0: it gave none, or there was no room for it */
};
#define UNATTRIBUTED 2147483647 /* beyond all banks, so that it is no backend's counter */

#define FAILURE_NOT_SUPPORTED 0 /* EOPNOTSUPP, ENXIO: by the device, or by its peer */
#define FAILURE_MTU	      1 /* EMSGSIZE */
#define FAILURE_LINK_DOWN     2 /* ENETDOWN; ENXIO where there is no link */
#define FAILURE_NO_DEVICE     3 /* EINVAL, ENODEV: gone since the program looked */
#define FAILURE_QUEUE_FULL    4 /* ENOSPC, ENOBUFS, or frames left over without an error */
#define FAILURE_OTHER	      5
#define FAILURES	      6

/* Behind the tc hook: the error is a number of the kernel's enum skb_drop_reason. */
#define BY_DROP_REASON 64

_Static_assert(sizeof(struct ledger_entry) == 8, "ledger_entry");
_Static_assert(sizeof(struct ledger) == 24 + 8 * LEDGER_FRAMES, "ledger");
_Static_assert(sizeof(struct failure_key) == 8, "failure_key");

#endif
