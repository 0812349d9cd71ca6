/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Whether egress devices have a link. No helper tells that, so it is read where the kernel keeps
 * it.
 */
#ifndef __LINK_H__
#define __LINK_H__

#include "vmlinux.h"
#include "kernel.h"
#include <bpf/bpf_helpers.h>

#include "interface.h"
#include "maps.h"

/*
 * The devices that were looked at last: ifindex (32 bits), the tick in which that was (31 bits), 1
 * where the device had no link. All of it is one word, so that CPUs which read and write it at the
 * same time never mix two devices.
 */
#define KNOWN_LINKS 256
__u64 known_links[KNOWN_LINKS] = {};

/*
 * Looks at a device. The value of the map egress lies in the kernel's own structure, beside the
 * pointer to the device (struct bpf_dtab_netdev). While the program runs, neither goes away: a
 * device that is unregistered leaves the map first, and is freed once no program is on its way
 * (RCU).
 */
static __always_inline bool is_link_down(__u32 ifindex)
{
	void *value = bpf_map_lookup_elem(&egress, &ifindex), *device;
	/* One after the other, because the program has little of the stack left. */
	union {
		void *device;
		__u32 flags;
		__u64 state;
	} seen = {};

	if (!value ||
	    bpf_probe_read_kernel(&seen.device, sizeof(seen.device), value - interface.to_device))
		return false;
	device = seen.device;
	if (bpf_probe_read_kernel(&seen.flags, sizeof(seen.flags), device + interface.to_flags))
		return false;
	if (!(seen.flags & IFF_UP))
		return true;
	if (bpf_probe_read_kernel(&seen.state, sizeof(seen.state), device + interface.to_state))
		return false;
	return seen.state & 1ull << __LINK_STATE_NOCARRIER;
}

/* What is known of a device in this tick, but for the last bit. */
static __always_inline __u64 current_link(__u32 ifindex)
{
	return (__u64)ifindex << 32 | (__u32)bpf_jiffies64() << 1;
}

/* Looks at a device again. Neither static nor inlined, because it needs more stack than the program
 * has left. */
__noinline __u32 look_at_link(__u32 ifindex)
{
	__u32 down = is_link_down(ifindex);

	*(volatile __u64 *)&known_links[ifindex % KNOWN_LINKS] = current_link(ifindex) | down;
	return down;
}

/*
 * Whether a device is down or without carrier. It is looked at once in a tick (1 to 10 ms): a link
 * that comes or goes is known that much later.
 */
static __always_inline bool lacks_link(__u32 ifindex)
{
	__u64 word;

	if (!interface.to_device)
		return false;
	word = *(volatile __u64 *)&known_links[ifindex % KNOWN_LINKS];
	if ((word & ~1ull) != current_link(ifindex))
		return look_at_link(ifindex);
	return word & 1;
}

#endif
