/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The label of an skb that was redirected at the tc hook. It lies in the 20 bytes of an skb that
 * the kernel leaves to tc programs (cb of struct __sk_buff), and goes along with the skb, so that
 * the ledger knows whose frame the kernel drops.
 *
 * Others write there, too, once the frame is on its way: queueing disciplines for themselves (codel
 * and netem 8 bytes, fq 9), and whoever receives the frame, from the first byte on. So what names
 * the backend comes last, and a check tells whether it is still a label. Its key is random, and
 * each set of rules has another.
 */
#ifndef __LABEL_H__
#define __LABEL_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/limits.h"
#include "abi/ruleset.h"
#include "common_maps.h"

/* Numbers of the words. The second one is not used. */
#define LABEL_EGRESS  0 /* ifindex of the egress device; sound until the frame is in a queue */
#define LABEL_WAY     2 /* low half of the ingress ifindex; 8 bits LABEL_NUMBER; 8 bits unused */
#define LABEL_BACKEND 3 /* LABEL_SEGMENTS, LABEL_CAPTURED, and LABEL_COUNTER */
#define LABEL_CHECK   4

/* The frame holds several segments, which may come apart on its way. They have the same number. */
#define LABEL_SEGMENTS 0x80000000
#define LABEL_NUMBER   0xff00

/* The backend's counter. All of these bits stand for UNATTRIBUTED. */
#define LABEL_COUNTER 0x3fffff

/*
 * With LABEL_NUMBER, the number of a frame that a capture has taken: from 1 to 510. Labels of other
 * frames have 0 here, or, with UNATTRIBUTED, 511.
 */
#define LABEL_CAPTURED 0x7fc00000

_Static_assert(BANK_COUNTERS *COUNTER_BANKS <= LABEL_COUNTER, "LABEL_COUNTER");

/* Without the byte that fq writes. */
static __always_inline __u32 sound_way(__u32 way)
{
	return way & ~0xff;
}

/* Every bit of the key and of both words changes it. */
static __always_inline __u32 label_check(__u64 key, __u32 way, __u32 backend)
{
	__u64 word = (__u64)sound_way(way) << 32 | backend;

	return ((key ^ word) * 0x9e3779b97f4a7c15) >> 32;
}

/* The number of a captured frame, and its two parts. */
static __always_inline __u32 captured_number(__u32 way, __u32 backend)
{
	return (backend & LABEL_CAPTURED) >> 22 << 8 | (way & LABEL_NUMBER) >> 8;
}

static __always_inline __u32 captured_way(__u32 way, __u32 number)
{
	return (way & ~LABEL_NUMBER) | (number << 8 & LABEL_NUMBER);
}

static __always_inline __u32 captured_backend(__u32 backend, __u32 number)
{
	return (backend & ~LABEL_CAPTURED) | (number >> 8 << 22 & LABEL_CAPTURED);
}

/* That of both slots' rule sets: it stays. 0: there is none. */
static __always_inline __u64 label_key(void)
{
	__u32 slot = 0;
	const struct ruleset *set = bpf_map_lookup_elem(&rulesets, &slot);

	return set ? set->hash_key : 0;
}

#endif
