/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a capture is to see, and what it tells the command of each frame. */
#ifndef __ABI_CAPTURE_H__
#define __ABI_CAPTURE_H__

#include "vmlinux.h"

#define MAX_SNAPLEN  65536    /* bytes of a frame; a power of two */
#define CAPTURE_ROOM 33554432 /* bytes of the ring buffer; a power of two, and of whole pages */
#define MAX_WANTED   524288   /* counters of the rules that a capture is narrowed to */

/* Constants of a stand-in that captures, beside those of wanted.h. */
struct capture {
	__u64 outcomes; /* a bit for each */
	__u32 stages;	/* a bit for each STAGE_* */
	__u32 snaplen;	/* so many bytes of a frame */
	__u32 sample;	/* one frame of so many */
	__u32 by_rule;	/* 1: the counter has to be among the wanted ones */
	__u32 teller;	/* that tells it of lost frames: see tellers.h; TELLERS: none does */
	__u32 unused;
};

/* What is told of a frame. Its bytes follow, as many as were wanted. */
struct sighting {
	__u64 time;	/* CLOCK_MONOTONIC, ns */
	__u32 number;	/* of the packet */
	__u32 ingress;	/* the interface where it arrived */
	__u32 stage;	/* STAGE_* */
	__u32 outcome;	/* OUTCOME_*; of a lost frame the reason, FAILURE_* and BY_DROP_REASON */
	__u32 len;	/* of the frame, in bytes, without a tag beside it */
	__u32 captured; /* bytes of it that follow */
	__u32 decided;	/* the rest as in struct shown */
	__u32 counter;
	__u32 ifindex;
	__u32 beside;	/* TAG_BESIDE, and the outer VLAN tag, if that is not in the frame: */
	__u32 tag_type; /* its TPID, as it lies in a frame */
	__u32 error;	/* of a lost frame: as the kernel gave it */
	__u32 follows;	/* 1: it is told of once more when it has left */
	__u32 unused;
};
#define TAG_BESIDE 65536

#define STAGE_ARRIVED 0
#define STAGE_LEFT    1
#define STAGE_LOST    2

/*
 * A frame that was captured and redirected at the tc hook, under the number that its label has; see
 * label.h. Numbers begin again when all were used.
 */
struct labelled {
	__u64 skb; /* where it lies */
	__u32 way; /* words of the label */
	__u32 backend;
	__u32 check;
	__u32 number; /* of the packet; UNATTRIBUTED: it was told that it is lost */
};
#define LABELLED      131072 /* numbers */
#define FIRST_LABEL   256    /* the lowest of those that are used */
#define USABLE_LABELS 130560

_Static_assert(LABELLED == USABLE_LABELS + 2 * FIRST_LABEL, "labels");
_Static_assert(sizeof(struct labelled) == 24, "labelled");
_Static_assert(sizeof(struct capture) == 32, "capture");
_Static_assert(sizeof(struct sighting) == 64, "sighting");

#endif
