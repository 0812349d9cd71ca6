// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What libxdp's dispatcher calls for us: calls our program by a slot. It takes the place of a
 * function of the dispatcher (freplace), and xdp-loader loads it once. What is in the slot changes
 * under it.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

/* The kernel empties it once nobody has a descriptor or a pin of it. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} joined SEC(".maps");

SEC("xdp")
int xdpredir_join(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &joined, 0);
	return XDP_PASS; /* the slot is empty */
}

char _license[] SEC("license") = "Dual BSD/GPL";
