/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* A map of sockets (AF_XDP) that take frames away from the stack, by queue. */
#ifndef __SOCKETS_H__
#define __SOCKETS_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/limits.h"

struct sockets {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MAX_SOCKETS);
	__type(key, __u32);
	__type(value, __u32);
};

/* An entry goes with its socket. False where there is none: the frame stays where it is. */
static __always_inline bool hand_to_socket(struct xdp_md *ctx, void *sockets)
{
	return bpf_redirect_map(sockets, ctx->rx_queue_index, XDP_PASS) == XDP_REDIRECT;
}

#endif
