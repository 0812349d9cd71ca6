/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#ifndef __ABI_INTERFACE_H__
#define __ABI_INTERFACE_H__

#include "vmlinux.h"

#define INTERFACE_NAME_LEN    16 /* IFNAMSIZ, with the final NUL */
#define INTERFACE_VERSION_LEN 40 /* with the final NUL */

/*
 * Constants of each interface's own copy of the program, in its .rodata. Other versions of the
 * command read them when they take over: fields are added at the end, none is moved or removed, and
 * all zero means what there was before.
 */
struct interface {
	__u32 ifindex;
	__u32 mode;		  /* MODE_* */
	__u32 frags;		  /* 1: frames in several buffers arrive here, too (xdp.frags) */
	__u32 ledger;		  /* LEDGER_* */
	__u32 answers;		  /* ANSWERS_*: how frames are sent back out of the interface */
	__u32 reachable;	  /* 1: frames that are redirected here natively arrive */
	__u32 completes_checksum; /* 1: the device, or the reader behind it, completes partial ones
				   */
	__u32 for_answers;	  /* 1: a rule had it attached; POLICY_ANSWERS_ONLY may hold */
	char name[INTERFACE_NAME_LEN];
	__u8 mac[6]; /* the device's, with which announced addresses are answered for */
	/*
	 * How far it is, in bytes, from a value of the map egress back to the pointer to its
	 * device, and from a device to what tells whether it has a link; 0: that is not known.
	 */
	__u16 to_device;
	__u16 to_flags;
	__u16 to_state;
	/*
	 * At the tc hook, to find out whether the interface is in another network namespace: from
	 * an skb to its device, from a device to its namespace, from there to its number; 0: that
	 * is not known.
	 */
	__u16 to_skb_device;
	__u16 to_net;
	__u16 to_inum;
	__u16 shows;			     /* 1: what is decided is written down: see show.h */
	__u32 netns;			     /* the number of the interface's own */
	char version[INTERFACE_VERSION_LEN]; /* of the command that attached it, with its build */
	__u32 yields; /* 1: it has a slot for a stand-in; not where the kernel compiles no programs
		       */
	__u32 stands_for; /* of a stand-in: the id of the program in whose place it runs; see
			     stand_in.h */
	__u32 sockets;	  /* 1: the kernel has sockets that take packets from rules (AF_XDP) */
	__u32 joined;	  /* 1: libxdp's dispatcher calls it: see join.bpf.c */
};
#define MODE_NATIVE 1
#define MODE_SKB    2
#define MODE_TC	    3

/* By XDP_TX, or by a redirect: a veth's peer that polls without a program never wakes for XDP_TX.
 */
#define ANSWERS_NONE	   0 /* they would be lost */
#define ANSWERS_SENT	   1
#define ANSWERS_REDIRECTED 2

#define LEDGER_ON	   0
#define LEDGER_UNWANTED	   1 /* attach --no-ledger */
#define LEDGER_UNAVAILABLE 2 /* the kernel has no BTF, or refused the tracing programs */

_Static_assert(sizeof(struct interface) == 128, "interface");

#endif
