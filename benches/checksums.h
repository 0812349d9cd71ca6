/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef __CHECKSUMS_H__
#define __CHECKSUMS_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

/* The checksum after a word has changed (RFC 1624, equation 3). */
static __always_inline __sum16 replaced(__sum16 check, __be32 from, __be32 to)
{
	__u64 sum = (__u64)(__u16)~check + (__u32)~from + to;

	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* RFC 768: 0 would mean that there is no checksum. */
static __always_inline __sum16 udp_replaced(__sum16 check, __be32 from, __be32 to)
{
	check = replaced(check, from, to);
	return check ? check : 0xffff;
}

#endif
