/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What tracing programs ask of an skb that the kernel drops, once they know that it has a label.
 *
 * An skb is on its way until the stack receives it again, be it at the other end of a veth. What
 * becomes of it there is no loss of the redirect.
 */
#ifndef __DROPPED_SKB_H__
#define __DROPPED_SKB_H__

#include "vmlinux.h"
#include "kernel.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "abi/ledger.h"
#include "common_maps.h"
#include "label.h"
#include "ledger_device.h"

#define SUBSYSTEM_SHIFT	 16 /* of a drop reason that is not in enum skb_drop_reason */
#define OTHER_SUBSYSTEMS 0x8000

static __always_inline __u32 label_word(const struct sk_buff *skb, __u32 number)
{
	const struct qdisc_skb_cb *bytes = (const void *)skb->cb;
	const __u32 *words = (const void *)bytes->data;

	return words[number];
}

/* Whether it came from a test run, which drops its skb at the end. It belongs to a socket and does
 * not say how to leave it, unlike all others. */
static __always_inline bool is_test_run(const struct sk_buff *skb)
{
	return skb->sk && !skb->destructor;
}

/*
 * Redirecting to a device of this namespace lets the skb keep the number of the device that it came
 * in by. Handing it to the other end of a veth makes that 0, until it is received there. A copy of
 * what a device sends is for a packet socket.
 */
static __always_inline bool is_on_its_way(const struct sk_buff *skb)
{
	if (is_test_run(skb) || BPF_CORE_READ_BITFIELD(skb, pkt_type) == PACKET_OUTGOING)
		return false;
	if (!skb->skb_iif)
		return true;
	return (__u16)skb->skb_iif == label_word(skb, LABEL_WAY) >> 16 && is_in_our_netns(skb->dev);
}

static __always_inline bool is_unspecified(__u32 why)
{
	return why == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_NOT_SPECIFIED);
}

/*
 * Drivers of network cards may free what they have sent in the same way as what they drop. Others
 * do not.
 */
static __always_inline bool may_be_sent(const struct sk_buff *skb, __u32 why)
{
	return !BPF_CORE_READ_BITFIELD(skb, tc_at_ingress) && is_unspecified(why) &&
	       skb->dev->dev.parent;
}

/*
 * Why the kernel dropped a frame before it gave it to the egress device: that one is gone, its
 * other end is down, or is no longer in another network namespace.
 */
static __always_inline __u16 reason_of_refusal(__u32 ifindex)
{
	void *value = bpf_map_lookup_elem(&egress, &ifindex);
	__u32 to_device = bpf_core_field_offset(struct bpf_dtab_netdev, val) -
			  bpf_core_field_offset(struct bpf_dtab_netdev, dev);
	struct net_device *device = NULL;

	if (!value || bpf_probe_read_kernel(&device, sizeof(device), value - to_device) || !device)
		return FAILURE_NO_DEVICE;
	if (BPF_CORE_READ(device, flags) & IFF_UP &&
	    !(BPF_CORE_READ(device, state) & 1ul << __LINK_STATE_NOCARRIER))
		return FAILURE_NO_DEVICE;
	return FAILURE_LINK_DOWN;
}

/* The kernel's word for it says the rest. */
static __always_inline __u16 reason_of_drop(const struct sk_buff *skb)
{
	if (BPF_CORE_READ_BITFIELD(skb, tc_at_ingress))
		return reason_of_refusal(label_word(skb, LABEL_EGRESS));
	return has_link(skb->dev) ? FAILURE_OTHER : FAILURE_LINK_DOWN;
}

/* In 16 bits. */
static __always_inline __u16 error_of_drop(__u32 why)
{
	__u32 subsystem = why >> SUBSYSTEM_SHIFT;

	if (is_unspecified(why))
		return 0;
	return subsystem ? OTHER_SUBSYSTEMS | (subsystem & 0x7f) << 8 | (why & 0xff) : why;
}

#endif
