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

/* include/linux/netdevice.h */
struct net_device {
	unsigned long state;
	unsigned int flags;
	int ifindex;
	possible_net_t nd_net;
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

#endif
