// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The ledger: counts the frames that were lost after the XDP program had redirected
 * them, by backend and reason. Everybody's XDP programs come by here.
 */
#include "vmlinux.h"
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "xdpredir.h"

#define NULL ((void *)0)

/* Errors of include/uapi/asm-generic/errno*.h */
#define ENXIO	   6
#define ENODEV	   19
#define EINVAL	   22
#define ENOSPC	   28
#define EMSGSIZE   90
#define EOPNOTSUPP 95
#define ENETDOWN   100
#define ENOBUFS	   105

#define BULK 16 /* frames that the kernel hands to a device at a time: DEV_MAP_BULK_SIZE */

const volatile __u32 netns = 0; /* inode number of the network namespace */
__u32 egress_id = 0;		/* of the map; 0: not yet */

#include "ledger_maps.h"

static __always_inline bool is_here(const struct net_device *dev)
{
	return dev->nd_net.net->ns.inum == netns;
}

static __always_inline bool came_by(const struct ledger *ledger, const struct net_device *dev)
{
	return (ledger->ingress & ~LEDGER_NATIVE) == (__u32)dev->ifindex;
}

static __always_inline __u32 reason_of(int error)
{
	switch (-error) {
	case EOPNOTSUPP:
		return FAILURE_NOT_SUPPORTED;
	case EMSGSIZE:
		return FAILURE_MTU;
	case ENETDOWN:
	case ENXIO:
		return FAILURE_LINK_DOWN;
	case ENODEV:
	case EINVAL:
		return FAILURE_NO_DEVICE;
	case 0:
	case ENOSPC:
	case ENOBUFS:
		return FAILURE_QUEUE_FULL;
	default:
		return FAILURE_OTHER;
	}
}

static __always_inline bool add_one(const struct failure_key *key)
{
	__u64 one = 1, *frames = bpf_map_lookup_elem(&failures, key);

	if (!frames && bpf_map_update_elem(&failures, key, &one, BPF_NOEXIST) == 0)
		return true;
	if (!frames) /* full, or another CPU was faster */
		frames = bpf_map_lookup_elem(&failures, key);
	if (!frames)
		return false;
	__sync_fetch_and_add(frames, 1);
	return true;
}

/* The command has made room for what is nobody's. */
static __always_inline void fail(__u32 counter, __u32 reason)
{
	struct failure_key key = {.counter = counter, .reason = reason};

	if (add_one(&key))
		return;
	key.counter = NOBODYS;
	add_one(&key);
}

/* A frame that the kernel did not take; the program has just returned. */
SEC("tp_btf/xdp_redirect_err")
int BPF_PROG(redirect_err, const struct net_device *dev, const struct bpf_prog *xdp, const void *to,
	     int error, int map_type, __u32 map_id, __u32 index)
{
	struct ledger *ledger;

	if (!egress_id || map_id != egress_id)
		return 0;
	ledger = ledger_of(index);
	if (!ledger || !came_by(ledger, dev))
		return 0;
	if (ledger->ingress & LEDGER_NATIVE && ledger->taken != ledger->settled)
		ledger->taken--;
	fail(ledger->counter[ledger->taken % LEDGER_FRAMES], reason_of(error));
	return 0;
}

struct lost {
	struct ledger *ledger;
	__u32 frame;
	__u32 reason;
};

static long lose(__u32 step, void *arg)
{
	struct lost *lost = arg;
	__u32 counter = lost->ledger->counter[(lost->frame + step) % LEDGER_FRAMES];

	fail(counter, lost->reason);
	return 0;
}

/*
 * A bulk that was handed to its device. The kernel hands over a full one when the
 * next frame comes, which is accounted for already, and any one at the end of a poll.
 * Drivers take frames in their order, so those that are lost are the last ones.
 */
SEC("tp_btf/xdp_devmap_xmit")
int BPF_PROG(devmap_xmit, const struct net_device *from, const struct net_device *to, int sent,
	     int drops, int error)
{
	struct ledger *ledger = ledger_of(to->ifindex);
	__u32 frames = sent + drops;
	struct lost lost = {};
	__u32 waiting;

	if (!ledger || !came_by(ledger, from))
		return 0;
	waiting = ledger->taken - ledger->settled;
	if (waiting < frames || (drops && !is_here(to))) /* somebody else's */
		return 0;
	ledger->settled = ledger->taken - (frames == BULK && waiting > BULK);
	if (drops <= 0 || drops > BULK)
		return 0;
	lost.ledger = ledger;
	lost.frame = ledger->settled - drops;
	lost.reason = reason_of(error);
	bpf_loop(drops, lose, &lost, 0);
	return 0;
}

static __always_inline bool is_ours(const struct bpf_prog *xdp)
{
	const char name[] = "xdpredir";

	for (__u32 i = 0; i < sizeof(name); i++) {
		if (xdp->aux->name[i] != name[i])
			return false;
	}
	return true;
}

/* A frame whose queue is stopped, in generic mode: the one that the program redirected last. */
SEC("tp_btf/xdp_exception")
int BPF_PROG(exception, const struct net_device *dev, const struct bpf_prog *xdp, __u32 action)
{
	struct ledger *ledger = ledger_of(dev->ifindex);

	if (!ledger || ledger->ingress & LEDGER_NATIVE || action != XDP_TX)
		return 0;
	if (is_here(dev) && is_ours(xdp))
		fail(ledger->counter[ledger->taken % LEDGER_FRAMES], FAILURE_QUEUE_FULL);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
