// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * redirect: what xdpredir does to a packet, written by hand for tc ingress. The service and the
 * backend are constants, and redirect_peer is the shortest path into the backend's namespace. Hot:
 * call_subject writes the frame and calls the program under test, over and over.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "checksums.h"

const volatile __be32 service_source = 0;
const volatile __be16 service_port = 0;
const volatile __be32 server = 0;
const volatile __u32 egress = 0;
const volatile __u64 original[8] = {};	     /* the frame of hot runs */
const volatile __u8 macs[2 * ETH_ALEN] = {}; /* destination, source */

/* The program under test of hot runs. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} subject SEC(".maps");

SEC("tc")
int call_subject(struct __sk_buff *skb)
{
	__u64 *words = (void *)(long)skb->data;

	if ((void *)words + sizeof(original) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	for (__u32 i = 0; i < sizeof(original) / sizeof(*words); i++)
		words[i] = original[i];
	bpf_tail_call(skb, &subject, 0);
	return TC_ACT_SHOT;
}

SEC("tc")
int pass(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

SEC("tc")
int redirect(struct __sk_buff *skb)
{
	struct ethhdr *eth = (void *)(long)skb->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > (void *)(long)skb->data_end || eth->h_proto != bpf_htons(ETH_P_IP))
		return TC_ACT_OK;
	if (ip->ihl != 5 || ip->protocol != IPPROTO_UDP || ip->saddr != service_source ||
	    udp->dest != service_port)
		return TC_ACT_OK;

	for (int i = 0; i < 2 * ETH_ALEN; i++)
		((__u8 *)eth)[i] = macs[i];
	ip->check = replaced(ip->check, ip->daddr, server);
	ip->check = replaced(ip->check, bpf_htons(0x0100), 0);
	ip->ttl--;
	if (udp->check)
		udp->check = udp_replaced(udp->check, ip->daddr, server);
	ip->daddr = server;
	return bpf_redirect_peer(egress, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
