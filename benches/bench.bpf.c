// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Live: generate -> the program under test -> sink. Hot: call_subject writes the frame and calls
 * the program under test, over and over. Some programs take the place of the program under test for
 * comparison: pass, bare, bare_in_turn, reference.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "arrivals.h"
#include "frames.h"

#define DEVICES 16

const volatile __u32 generator_ifindex = 0;
__u32 device = 0; /* of the frame before, for bare_in_turn */

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, DEVICES);
	__type(key, __u32);
	__type(value, __u32);
} bare_egress SEC(".maps");

/* The program under test of hot runs. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} subject SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} referenced SEC(".maps");

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	if (!write_frame(ctx))
		return XDP_ABORTED;
	return bpf_redirect(generator_ifindex, 0);
}

SEC("xdp")
int call_subject(struct xdp_md *ctx)
{
	if (write_frame(ctx))
		bpf_tail_call(ctx, &subject, 0);
	return XDP_ABORTED;
}

SEC("xdp")
int pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

/* Reads nothing of the frame. */
SEC("xdp")
int bare(struct xdp_md *ctx)
{
	return bpf_redirect_map(&bare_egress, 0, 0);
}

SEC("xdp")
int bare_in_turn(struct xdp_md *ctx)
{
	device = (device + 1) % DEVICES;
	return bpf_redirect_map(&bare_egress, device, 0);
}

/* What the least of redirecting programs do, as xdp-bench's: check bounds, count, swap addresses.
 */
SEC("xdp")
int reference(struct xdp_md *ctx)
{
	__u16 *macs = (void *)(long)ctx->data;
	__u32 zero = 0;
	__u64 *packets;

	if ((void *)macs + sizeof(struct ethhdr) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	packets = bpf_map_lookup_elem(&referenced, &zero);
	if (!packets)
		return XDP_PASS;
	(*packets)++;
	for (int i = 0; i < ETH_ALEN / 2; i++) {
		__u16 destination = macs[i];

		macs[i] = macs[i + ETH_ALEN / 2];
		macs[i + ETH_ALEN / 2] = destination;
	}
	return bpf_redirect_map(&bare_egress, 0, 0);
}

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	count(server_of((void *)(long)ctx->data, (void *)(long)ctx->data_end));
	return XDP_DROP;
}

/*
 * The same where the stack begins, after GRO. GRO may have merged frames or cut them: those are
 * counted as no server's, since they are not one frame each. Frames of redirect_peer arrive here,
 * too.
 */
SEC("tc")
int stack_sink(struct __sk_buff *skb)
{
	__u32 server = server_of((void *)(long)skb->data, (void *)(long)skb->data_end);

	count(skb->len == sizeof(frame) ? server : SERVERS);
	return TC_ACT_SHOT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
