/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * IPv4 prefixes that are given by a number, and random addresses in them. No two prefixes are the
 * same, and their lengths take turns. speed/prefixes.rs must number them in the same way.
 */
#ifndef __PREFIXES_H__
#define __PREFIXES_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define MAX_LENGTHS 8
#define STEP	    0x9e3779b1u /* odd: no two multiples are the same in any number of low bits */

const volatile __u32 lengths[MAX_LENGTHS] = {}; /* longest first */
const volatile __u32 length_count = 1;

__u32 prefixes = 0;  /* how many to draw addresses from; 0: draw none */
__u32 last_draw = 0; /* a power of two less one; the draw after it is the first one again */
__u32 draws = 0;
__u32 clients = 0; /* 1: addresses are drawn from 10.0.0.0/8, each once before one repeats */

/* https://github.com/skeeto/hash-prospector, lowbias32 */
static __always_inline __u32 mixed(__u32 x)
{
	x ^= x >> 16;
	x *= 0x7feb352d;
	x ^= x >> 15;
	x *= 0x846ca68b;
	return x ^ x >> 16;
}

/* A random address of a random prefix, in host byte order. */
static __always_inline __u32 draw(void)
{
	__u32 random = mixed(draws++ & last_draw), prefix = random % prefixes;
	__u32 length = lengths[prefix % length_count % MAX_LENGTHS];
	__u32 network = (__u64)(prefix / length_count) * STEP << (32 - length);

	return network | (__u64)mixed(random) >> length;
}

static __always_inline __u32 draw_client(void)
{
	return 0x0a000000 | ((draws++ & last_draw) * STEP & 0xffffff);
}

#endif
