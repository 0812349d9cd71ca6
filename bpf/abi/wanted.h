/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which frames somebody wants to see: see wanted.h. */
#ifndef __ABI_WANTED_H__
#define __ABI_WANTED_H__

#include "vmlinux.h"

/* What is not compared is zero, but for the ports. */
struct wanted {
	/* The bits of the addresses that are compared, and what they are: as in struct flow_key. */
	__u64 mask[4];
	__u64 addrs[4];
	__u16 first_port; /* destination ports, both ends included; 0 to 65535: any */
	__u16 last_port;
	__u16 vlan;	  /* identifier of the outer tag */
	__u16 inner_vlan; /* of the second one */
	__u8 family;	  /* FAMILY_* */
	__u8 proto4;	  /* IPPROTO_* of IPv4 and of IPv6: ICMP has two numbers */
	__u8 proto6;
	__u8 is_any; /* 1: every frame, whatever is in it */
	__u32 unused;
};

_Static_assert(sizeof(struct wanted) == 80, "wanted");

#endif
