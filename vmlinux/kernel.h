/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The kernel's own types that programs read, with only the fields that they need. They
 * are not user-space API and change between kernels: libbpf looks up the running kernel's layout
 * (CO-RE).
 */
#ifndef __KERNEL_H__
#define __KERNEL_H__

#include "vmlinux.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* include/linux/ns_common.h */
struct ns_common {
	unsigned int inum;
};

/* include/net/net_namespace.h */
struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

/* include/linux/device.h */
struct device {
	struct device *parent;
};

/* include/linux/netdevice.h */
struct net_device {
	unsigned long state;
	unsigned int flags;
	int ifindex;
	possible_net_t nd_net;
	struct device dev;
};

/* include/linux/skbuff.h */
struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	char cb[48];
	void (*destructor)(struct sk_buff *skb);
	__u8 pkt_type : 3;
	__u8 tc_at_ingress : 1;
	int skb_iif;
};

/* include/net/sch_generic.h: what cb is for queueing disciplines and tc programs */
struct qdisc_skb_cb {
	unsigned char data[20];
};

/* include/net/dropreason-core.h, or dropreason.h; the numbers differ from kernel to kernel */
enum skb_drop_reason {
	SKB_DROP_REASON_NOT_SPECIFIED = 2,
};

/* kernel/bpf/devmap.c */
struct bpf_devmap_val {
	__u32 ifindex;
};

struct bpf_dtab_netdev {
	struct net_device *dev;
	struct bpf_devmap_val val;
};

/* include/linux/bpf.h */
struct bpf_prog_aux {
	__u32 id;
};

struct bpf_prog {
	struct bpf_prog_aux *aux;
};

#pragma clang attribute pop

/* Bits of a device's flags (include/uapi/linux/if.h), and the number of a bit of its state. */
#define IFF_UP		       0x1
#define IFF_SLAVE	       0x800 /* port of a bond */
#define __LINK_STATE_NOCARRIER 2
/* A packet's type: a copy of what a device sends (include/uapi/linux/if_packet.h). */
#define PACKET_OUTGOING 4

#endif
