// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * generate -> the program under test -> sink. Two programs take the place of the program under test
 * for comparison: bare only redirects; pass does nothing, so that its run time is what taking the
 * time costs.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "checksums.h"
#include "prefixes.h"

#define FRAME_WORDS 8
#define FIRST_PORT  10000
#define SERVERS	    16
#define TC_ACT_SHOT 2 /* include/uapi/linux/pkt_cls.h */

const volatile __u64 frame[FRAME_WORDS] = {}; /* source port 0, checksums valid */
const volatile __u32 generator_ifindex = 0;
const volatile __u32 first_server = 0; /* host byte order; the others follow */

__u32 flows = 0;
__u32 flow = 0; /* one CPU generates */

/* Packets by server. The last element counts all other destinations. */
struct arrivals {
	__u64 packets[SERVERS + 1];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct arrivals);
} arrived SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} bare_egress SEC(".maps");

/* One UDP checksum covers the port and the address; the IP checksum only the latter. */
static __always_inline void set_source(struct iphdr *ip, struct udphdr *udp)
{
	__be32 source;

	udp->source = bpf_htons(FIRST_PORT + flow);
	udp->check = udp_replaced(udp->check, 0, udp->source);
	flow = flow + 1 < flows ? flow + 1 : 0;
	if (!prefixes)
		return;

	source = bpf_htonl(draw());
	ip->check = replaced(ip->check, ip->saddr, source);
	udp->check = udp_replaced(udp->check, ip->saddr, source);
	ip->saddr = source;
}

/* The kernel reuses pages, and the receiver has rewritten them: so each frame is written again. */
SEC("xdp")
int generate(struct xdp_md *ctx)
{
	__u64 *words = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)words + sizeof(struct ethhdr);

	if ((void *)(words + FRAME_WORDS) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;

	for (int i = 0; i < FRAME_WORDS; i++)
		words[i] = frame[i];
	set_source(ip, (void *)(ip + 1));
	return bpf_redirect(generator_ifindex, 0);
}

SEC("xdp")
int bare(struct xdp_md *ctx)
{
	return bpf_redirect_map(&bare_egress, 0, 0);
}

SEC("xdp")
int pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

static __always_inline void count(__u32 server)
{
	__u32 zero = 0;
	struct arrivals *arrivals = bpf_map_lookup_elem(&arrived, &zero);

	if (arrivals)
		arrivals->packets[server < SERVERS ? server : SERVERS]++;
}

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) <= (void *)(long)ctx->data_end && eth->h_proto == bpf_htons(ETH_P_IP))
		count(bpf_ntohl(ip->daddr) - first_server);
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
	struct ethhdr *eth = (void *)(long)skb->data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) <= (void *)(long)skb->data_end && eth->h_proto == bpf_htons(ETH_P_IP))
		count(skb->len == sizeof(frame) ? bpf_ntohl(ip->daddr) - first_server : SERVERS);
	return TC_ACT_SHOT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
