// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The ledger: counts the frames that were lost after the XDP program had redirected
 * them, by backend and reason. Everybody's XDP programs come by here.
 */
#include "vmlinux.h"
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "abi/ledger.h"
#include "ledger_maps.h"

/* Errors of include/uapi/asm-generic/errno*.h */
#define ENXIO	   6
#define ENODEV	   19
#define EINVAL	   22
#define ENOSPC	   28
#define EMSGSIZE   90
#define EOPNOTSUPP 95
#define ENETDOWN   100
#define ENOBUFS	   105

#define DEV_MAP_BULK_SIZE      16    /* kernel/bpf/devmap.c */
#define IFF_UP		       0x1   /* include/uapi/linux/if.h */
#define IFF_SLAVE	       0x800 /* the same: port of a bond */
#define __LINK_STATE_NOCARRIER 2     /* include/linux/netdevice.h: a bit's number */

const volatile __u32 netns = 0; /* inode number of the network namespace */
__u32 egress_id = 0;		/* of the map; 0: not yet */

/*
 * Always 0, which no verifier knows. Before Linux 6.7 they follow a callback of bpf_loop once, with
 * the values that its context has then, and remove what that one step does not reach. So each
 * field of a context that a later step branches on starts with a value that they don't know.
 */
__u32 unknown_zero = 0;

static __always_inline bool is_here(const struct net_device *dev)
{
	return dev->nd_net.net->ns.inum == netns;
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

static __always_inline bool has_link(const struct net_device *dev)
{
	return dev->flags & IFF_UP && !(dev->state & 1UL << __LINK_STATE_NOCARRIER);
}

/*
 * Of a bulk that its driver refused. Drivers answer ENXIO for a device or a peer that is down, but
 * also for one that has no queue for redirected frames: no program runs there, or none for this
 * CPU.
 */
static __always_inline __u32 reason_at(const struct net_device *dev, int error)
{
	if (error == -ENXIO && has_link(dev))
		return FAILURE_NOT_SUPPORTED;
	return reason_of(error);
}

static __always_inline bool add(const struct failure_key *key, __u64 lost)
{
	__u64 *frames = bpf_map_lookup_elem(&failures, key);

	if (!frames && bpf_map_update_elem(&failures, key, &lost, BPF_NOEXIST) == 0)
		return true;
	if (!frames) /* full, or another CPU was faster */
		frames = bpf_map_lookup_elem(&failures, key);
	if (!frames)
		return false;
	__sync_fetch_and_add(frames, lost);
	return true;
}

/* The command has made room for what is nobody's. */
static __always_inline void fail(__u32 counter, __u32 reason, __u64 lost)
{
	struct failure_key key = {.counter = counter, .reason = reason};

	if (add(&key, lost))
		return;
	key.counter = UNATTRIBUTED;
	add(&key, lost);
}

/*
 * Frames that no longer wait. When none does, the list begins anew; so it does when it is
 * full and a poll ends, for then some were never heard of.
 */
static __always_inline void settle(struct ledger *ledger, __u32 ifindex, __u32 frames)
{
	struct sent told = {.ifindex = ifindex, .counter = HANDED_OVER | frames};

	ledger->settled += frames;
	if (ledger->settled == ledger->taken ||
	    (ledger->taken > LEDGER_FRAMES && frames < DEV_MAP_BULK_SIZE)) {
		ledger->settled = 0;
		ledger->taken = 0;
		return;
	}
	add_sent(ledger, told);
	ledger->settled++;
}

/* Whether the program may just have chosen natively. */
static __always_inline bool chose_last(const struct ledger *ledger, __u32 program)
{
	return ledger->program == program && ledger->taken != ledger->settled;
}

static __always_inline __u32 take_back(struct ledger *ledger)
{
	return ledger->sent[--ledger->taken % LEDGER_FRAMES].counter;
}

/* The last frame that the program chose. */
static __always_inline void fail_last(struct ledger *ledger, const struct bpf_prog *xdp,
				      __u32 reason)
{
	__u32 program = xdp->aux->id;

	if (chose_last(ledger, program))
		fail(take_back(ledger), reason, 1);
	else if (ledger->only_program == program)
		fail(ledger->only, reason, 1);
}

/* A frame that the kernel did not take; the program has just returned. */
SEC("tp_btf/xdp_redirect_err")
int BPF_PROG(redirect_err, const struct net_device *dev, const struct bpf_prog *xdp, const void *to,
	     int error, int map_type, __u32 map_id, __u32 index)
{
	struct ledger *ledger = ledger_here();

	if (ledger && egress_id && map_id == egress_id)
		fail_last(ledger, xdp, reason_of(error));
	return 0;
}

/*
 * How many of the device's frames are not known to be handed over. A global function,
 * so that the verifier looks at its loop once.
 */
__noinline __u32 waiting(struct ledger *ledger, __u32 ifindex)
{
	__u32 frames = 0;

	if (!ledger)
		return 0;
	for (__u32 i = 0; i < LEDGER_FRAMES && i < ledger->taken; i++) {
		__u32 counter = ledger->sent[i].counter;

		if (ledger->sent[i].ifindex != ifindex)
			continue;
		if (counter & HANDED_OVER)
			frames -= counter & ~HANDED_OVER;
		else
			frames++;
	}
	return frames;
}

/* The frames of a bulk that its device did not take. */
struct lost {
	const struct ledger *ledger;
	__u32 ifindex;
	__u32 reason;
	__u32 later; /* frames of the device that came after the bulk */
	__u32 frames;
	__u32 counter; /* of those before, that are not counted yet: */
	__u32 run;
};

/* A step of bpf_loop, from the last frame backwards: 1 ends it. */
static long lose(__u32 step, void *arg)
{
	struct lost *lost = arg;
	const struct ledger *ledger = lost->ledger;
	const struct sent *sent = &ledger->sent[(ledger->taken - 1 - step) % LEDGER_FRAMES];

	if (sent->ifindex != lost->ifindex || sent->counter & HANDED_OVER)
		return 0;
	if (lost->later) {
		lost->later--;
		return 0;
	}
	if (sent->counter != lost->counter) {
		if (lost->run)
			fail(lost->counter, lost->reason, lost->run);
		lost->counter = sent->counter;
		lost->run = 0;
	}
	lost->run++;
	return --lost->frames == 0;
}

/*
 * Drivers take frames in their order, so those that are lost are the last ones. Nothing
 * tells of a frame that a native tap handed over as generic mode does, having no buffer
 * for XDP: it stays before the bulk's.
 */
static __always_inline void lose_last(struct ledger *ledger, __u32 ifindex, __u32 bulk, __u32 drops,
				      __u32 reason)
{
	struct lost lost = {
		.ledger = ledger,
		.ifindex = ifindex,
		.reason = reason,
		.frames = drops,
		.counter = unknown_zero,
		.run = unknown_zero,
	};
	__u32 taken = ledger->taken;
	bool is_full = bulk >= DEV_MAP_BULK_SIZE;

	if (is_full)
		lost.later = waiting(ledger, ifindex) > bulk;
	if (!is_full || taken <= LEDGER_FRAMES)
		bpf_loop(taken < LEDGER_FRAMES ? taken : LEDGER_FRAMES, lose, &lost, 0);
	if (lost.run)
		fail(lost.counter, reason, lost.run);
	if (lost.frames)
		fail(UNATTRIBUTED, reason, lost.frames);
}

/* The port of a bond has the bond's program. */
static __always_inline bool is_ingress(const struct ledger *ledger, const struct net_device *dev)
{
	if (!is_here(dev))
		return false;
	return (__u32)dev->ifindex == ledger->ingress || dev->flags & IFF_SLAVE;
}

/*
 * A bulk that was handed to its device: a full one when the next frame comes, which is
 * accounted for already, and any one at the end of a poll. Nobody else's can come while
 * frames wait.
 */
SEC("tp_btf/xdp_devmap_xmit")
int BPF_PROG(devmap_xmit, const struct net_device *from, const struct net_device *to, int sent,
	     int drops, int error)
{
	struct ledger *ledger = ledger_here();
	__u32 frames = sent + drops;

	if (!ledger || ledger->taken - ledger->settled < frames || !is_ingress(ledger, from))
		return 0;
	if (drops > 0)
		lose_last(ledger, to->ifindex, frames, drops, reason_at(to, error));
	settle(ledger, to->ifindex, frames);
	return 0;
}

/*
 * A frame that was handed over alone and met a stopped queue, or that the device refused.
 * The program itself never says XDP_TX.
 */
SEC("tp_btf/xdp_exception")
int BPF_PROG(exception, const struct net_device *dev, const struct bpf_prog *xdp, __u32 action)
{
	struct ledger *ledger = ledger_here();

	if (ledger && action == XDP_TX)
		fail_last(ledger, xdp, FAILURE_QUEUE_FULL);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
