/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Takes the frames that somebody wants to see away from the stack, as long as he reads. */
#ifndef __TAKE_H__
#define __TAKE_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/taking.h"
#include "hook.h"
#include "sockets.h"
#include "wanted.h"

struct sockets readers SEC(".maps");

struct taking taking SEC(".data.taking") = {};

static __always_inline bool take_frame(struct xdp_md *ctx)
{
	if (!is_wanted(ctx))
		return false;
	/* The kernel would drop it. */
	if (frame_size(ctx) > *(volatile __u64 *)&taking.longest) {
		__sync_fetch_and_add(&taking.too_long, 1);
		return false;
	}
	return hand_to_socket(ctx, &readers);
}

#endif
