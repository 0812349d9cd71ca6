// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* For interfaces without a program: takes wanted frames, and passes all others. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "take.h"

SEC("xdp")
int xdpredir_dump(struct xdp_md *ctx)
{
	return take_frame(ctx) ? XDP_REDIRECT : XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
