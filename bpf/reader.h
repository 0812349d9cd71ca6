/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Who reads what rules take for sockets. The sockets of the interface's queues are in a map that is
 * pinned with the interface; at the tc hook there are none.
 */
#ifndef __READER_H__
#define __READER_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "hook.h"
#include "interface.h"
#include "sockets.h"

#ifdef HOOK_TC

static __always_inline bool hand_to_reader(struct hook_ctx *ctx)
{
	return false;
}

#else

struct sockets sockets SEC(".maps");

/* False where nobody reads. Neither static nor inlined, so that callers need no stack for it. */
__noinline __u32 hand_to_reader(struct hook_ctx *ctx)
{
	return interface.sockets && hand_to_socket(ctx, &sockets);
}

#endif
#endif
