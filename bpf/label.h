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

#include "abi/ruleset.h"
#include "common_maps.h"

/* Numbers of the words. The second one is not used. */
#define LABEL_EGRESS  0 /* ifindex of the egress device; sound until the frame is in a queue */
#define LABEL_WAY     2 /* low half of the ingress ifindex; 8 bits LABEL_NUMBER; 8 bits unused */
#define LABEL_BACKEND 3 /* its counter, and LABEL_SEGMENTS */
#define LABEL_CHECK   4

/* The frame holds several segments, which may come apart on its way. They have the same number. */
#define LABEL_SEGMENTS 0x80000000
#define LABEL_NUMBER   0xff00

/* Without the byte that fq writes. Every bit of the key and of both words changes it. */
static __always_inline __u32 label_check(__u64 key, __u32 way, __u32 backend)
{
	__u64 word = (__u64)(way & ~0xff) << 32 | backend;

	return ((key ^ word) * 0x9e3779b97f4a7c15) >> 32;
}

/* That of both slots' rule sets: it stays. 0: there is none. */
static __always_inline __u64 label_key(void)
{
	__u32 slot = 0;
	const struct ruleset *set = bpf_map_lookup_elem(&rulesets, &slot);

	return set ? set->hash_key : 0;
}

#endif
