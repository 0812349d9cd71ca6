// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Passes every frame. A veth takes what native programs redirect to it while its peer polls, which
 * the peer does with GRO, or with any XDP program. For datagrams a program costs less than GRO.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

/* Without "frags" a peer with a large MTU takes no program. */
SEC("xdp.frags")
int xdpredir_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
