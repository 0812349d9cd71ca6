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

#define STALE 65536 /* more than one poll can take: some were never heard of again */

const volatile __u32 netns = 0; /* inode number of the network namespace */
__u32 egress_id = 0;		/* of the map; 0: not yet */

#include "ledger_maps.h"

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
	key.counter = NOBODYS;
	add(&key, lost);
}

/* Frames that no longer wait. When none does, the next poll begins anew. */
static __always_inline void settle(struct ledger *ledger, __u32 ifindex, __u32 frames)
{
	struct sent told = {.ifindex = ifindex, .counter = HANDED_OVER | frames};

	ledger->settled += frames;
	if (ledger->settled == ledger->taken || ledger->taken > STALE) {
		ledger->settled = 0;
		ledger->taken = 0;
		return;
	}
	add_sent(ledger, told);
	ledger->settled++;
}

/* Whether a frame may just have been redirected by that interface's program. */
static __always_inline bool chose_last(const struct ledger *ledger, const struct net_device *dev)
{
	if ((ledger->ingress & ~LEDGER_NATIVE) != (__u32)dev->ifindex)
		return false;
	return !(ledger->ingress & LEDGER_NATIVE) || ledger->taken != ledger->settled;
}

/* Whose it was. */
static __always_inline __u32 take_back(struct ledger *ledger)
{
	__u32 taken;

	if (!(ledger->ingress & LEDGER_NATIVE))
		return ledger->only.counter;
	taken = --ledger->taken;
	return taken < LEDGER_FRAMES ? ledger->sent[taken % LEDGER_FRAMES].counter : NOBODYS;
}

/* A frame that the kernel did not take; the program has just returned. */
SEC("tp_btf/xdp_redirect_err")
int BPF_PROG(redirect_err, const struct net_device *dev, const struct bpf_prog *xdp, const void *to,
	     int error, int map_type, __u32 map_id, __u32 index)
{
	struct ledger *ledger = ledger_here();

	if (!ledger || !egress_id || map_id != egress_id)
		return 0;
	if (chose_last(ledger, dev))
		fail(take_back(ledger), reason_of(error), 1);
	return 0;
}

/*
 * How many of the device's frames were handed over before, in this poll. A global
 * function, as the next one, so that the verifier looks at its loop once.
 */
__noinline __u32 handed_over(struct ledger *ledger, __u32 ifindex)
{
	__u32 frames = 0;

	if (!ledger)
		return 0;
	for (__u32 i = 0; i < LEDGER_FRAMES && i < ledger->taken; i++) {
		__u32 counter = ledger->sent[i].counter;

		if (ledger->sent[i].ifindex == ifindex && counter & HANDED_OVER)
			frames += counter & ~HANDED_OVER;
	}
	return frames;
}

/* Where the frame is that comes after so many of the device's. */
__noinline __u32 place_after(struct ledger *ledger, __u32 ifindex, __u32 frames)
{
	if (!ledger)
		return 0;
	for (__u32 i = 0; i < LEDGER_FRAMES && i < ledger->taken; i++) {
		if (ledger->sent[i].ifindex != ifindex || ledger->sent[i].counter & HANDED_OVER)
			continue;
		if (frames == 0)
			return i;
		frames--;
	}
	return ledger->taken;
}

/* The frames of a bulk that its device did not take. */
struct lost {
	struct ledger *ledger;
	__u32 ifindex;
	__u32 reason;
	__u32 first; /* where it is */
	__u32 frames;
	__u32 counter; /* of those before, that are not counted yet: */
	__u32 run;
};

/* A step of bpf_loop: 1 ends it. */
static long lose(__u32 step, void *arg)
{
	struct lost *lost = arg;
	struct sent *sent = &lost->ledger->sent[(lost->first + step) % LEDGER_FRAMES];

	if (sent->ifindex != lost->ifindex || sent->counter & HANDED_OVER)
		return 0;
	if (sent->counter != lost->counter) {
		if (lost->run)
			fail(lost->counter, lost->reason, lost->run);
		lost->counter = sent->counter;
		lost->run = 0;
	}
	lost->run++;
	return --lost->frames == 0;
}

/* Drivers take frames in their order, so those that are lost are the last ones. */
static __always_inline void lose_last(struct ledger *ledger, __u32 ifindex, __u32 sent, __u32 drops,
				      __u32 reason)
{
	struct lost lost = {
		.ledger = ledger,
		.ifindex = ifindex,
		.reason = reason,
		.frames = drops,
	};

	if (ledger->taken <= LEDGER_FRAMES) {
		sent += handed_over(ledger, ifindex);
		lost.first = place_after(ledger, ifindex, sent);
		bpf_loop(ledger->taken - lost.first, lose, &lost, 0);
	}
	if (lost.run)
		fail(lost.counter, reason, lost.run);
	if (lost.frames)
		fail(NOBODYS, reason, lost.frames);
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

	if (!ledger || ledger->taken - ledger->settled < frames)
		return 0;
	if (drops > 0 && is_here(to))
		lose_last(ledger, to->ifindex, sent, drops, reason_of(error));
	settle(ledger, to->ifindex, frames);
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

/*
 * In generic mode, a frame that met a stopped queue, or that the device refused: the
 * one that the program redirected last.
 */
SEC("tp_btf/xdp_exception")
int BPF_PROG(exception, const struct net_device *dev, const struct bpf_prog *xdp, __u32 action)
{
	struct ledger *ledger = ledger_here();

	if (!ledger || ledger->ingress & LEDGER_NATIVE || action != XDP_TX)
		return 0;
	if (ledger->only.ifindex == (__u32)dev->ifindex && is_here(dev) && is_ours(xdp))
		fail(ledger->only.counter, FAILURE_QUEUE_FULL, 1);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
