/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef __MACS_H__
#define __MACS_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/action.h"

/*
 * Writes the MAC addresses with which a frame leaves. In two steps, because the compiler, which
 * knows of no alignment, would take twelve.
 */
static __always_inline void write_macs(void *frame, const struct action *action)
{
	const __u64 *from = (const __u64 *)action->frame;
	__u64 *to = frame;

	to[0] = from[0];
	*(__u32 *)(to + 1) = *(const __u32 *)(from + 1);
}

#endif
