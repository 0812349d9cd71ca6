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
static __always_inline void fail_many(__u32 counter, __u32 reason, __u64 lost)
{
	struct failure_key key = {.counter = counter, .reason = reason};

	if (add(&key, lost))
		return;
	key.counter = NOBODYS;
	add(&key, lost);
}

static __always_inline void fail(__u32 counter, __u32 reason)
{
	fail_many(counter, reason, 1);
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
		fail(take_back(ledger), reason_of(error));
	return 0;
}

/* A device's frames, counted from the first of the poll. */
struct bulk {
	struct ledger *ledger;
	__u32 ifindex;
	__u32 reason;
	__u32 handed_over; /* before this bulk */
	__u32 sent;
	__u32 lost; /* after those */
	__u32 seen;
};

static long count_handed_over(__u32 step, void *arg)
{
	struct bulk *bulk = arg;
	struct sent *sent = &bulk->ledger->sent[step % LEDGER_FRAMES];

	if (sent->ifindex == bulk->ifindex && sent->counter & HANDED_OVER)
		bulk->handed_over += sent->counter & ~HANDED_OVER;
	return 0;
}

/* A step of bpf_loop: 1 ends it. */
static long lose(__u32 step, void *arg)
{
	struct bulk *bulk = arg;
	struct sent *sent = &bulk->ledger->sent[step % LEDGER_FRAMES];
	__u32 number;

	if (!bulk->lost)
		return 1;
	if (sent->ifindex != bulk->ifindex || sent->counter & HANDED_OVER)
		return 0;
	number = bulk->seen++;
	if (number < bulk->handed_over + bulk->sent)
		return 0;
	fail(sent->counter, bulk->reason);
	bulk->lost--;
	return 0;
}

/* Drivers take frames in their order, so those that are lost are the last ones of the bulk. */
static __always_inline void lose_last(struct bulk *bulk)
{
	__u32 taken = bulk->ledger->taken;

	if (taken <= LEDGER_FRAMES) {
		bpf_loop(taken, count_handed_over, bulk, 0);
		bpf_loop(taken, lose, bulk, 0);
	}
	if (bulk->lost)
		fail_many(NOBODYS, bulk->reason, bulk->lost);
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
	if (drops > 0 && is_here(to)) {
		struct bulk bulk = {
			.ledger = ledger,
			.ifindex = to->ifindex,
			.reason = reason_of(error),
			.sent = sent,
			.lost = drops,
		};
		lose_last(&bulk);
	}
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
		fail(ledger->only.counter, FAILURE_QUEUE_FULL);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
