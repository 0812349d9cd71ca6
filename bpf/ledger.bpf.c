// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The ledger counts the frames that were lost after the XDP program had redirected them, by
 * backend, reason and error. Its tracing programs run for every XDP program of the host, so they
 * check first that the frames are ours.
 */
#include "vmlinux.h"
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "abi/ledger.h"
#include "ledger_device.h"
#include "ledger_failures.h"
#include "ledger_maps.h"
#ifdef TELLER
#include "teller.h"
#else
#include "tellers.h"
#endif

/* Errors of include/uapi/asm-generic/errno*.h */
#define ENXIO	   6
#define ENODEV	   19
#define EINVAL	   22
#define ENOSPC	   28
#define EMSGSIZE   90
#define EOPNOTSUPP 95
#define ENETDOWN   100
#define ENOBUFS	   105

#define DEV_MAP_BULK_SIZE 16 /* kernel/bpf/devmap.c */

__u32 egress_id = 0; /* id of the egress map; 0: not yet known */

/*
 * Always 0, which no verifier knows. Verifiers before Linux 6.7 walk a callback of bpf_loop once,
 * with the values that its context has at first, and remove code that this one step does not reach.
 * So each field of a context that a later step branches on starts with a value unknown to them.
 */
__u32 unknown_zero = 0;

static __always_inline __u16 reason_of_error(__u16 error)
{
	switch (error) {
	case EOPNOTSUPP:
	case ENXIO:
		return FAILURE_NOT_SUPPORTED;
	case EMSGSIZE:
		return FAILURE_MTU;
	case ENETDOWN:
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

/*
 * Why a driver refused frames. Drivers answer ENXIO for a device or a peer that is down, but also
 * for one without a queue for redirected frames: no program runs there, or none for this CPU.
 */
static __always_inline __u16 reason_of_driver(const struct net_device *dev, __u16 error)
{
	if (error == ENXIO && !has_link(dev))
		return FAILURE_LINK_DOWN;
	return reason_of_error(error);
}

/*
 * Marks frames of a device as lost or handed over. The ring starts again once none is left; and
 * where it has overflowed and a poll ends, which a queue that is not full tells, because the
 * entries that were overwritten can no longer be matched.
 */
static __always_inline void retire_frames(struct ledger *ledger, __u32 ifindex, __u32 frames)
{
	struct ledger_entry mark = {.ifindex = ifindex, .counter = FLUSHED | frames};

	ledger->retired += frames;
	if (ledger->retired == ledger->appended ||
	    (ledger->appended > LEDGER_FRAMES && frames < DEV_MAP_BULK_SIZE)) {
		ledger->retired = 0;
		ledger->appended = 0;
		return;
	}
	append(ledger, mark);
	ledger->retired++;
}

/* Whether the frames in the ring are the program's, and one of them waits. */
static __always_inline bool has_frames_of(const struct ledger *ledger, __u32 program)
{
	return ledger->program == program && ledger->appended != ledger->retired;
}

/* The frame that was written to the ring last is lost. */
static __always_inline void pop_last(struct ledger *ledger, __u16 reason, __u16 error)
{
	__u32 position = --ledger->appended % LEDGER_FRAMES;

	if (ledger->ring[position].ifindex & CAPTURED)
		tell_of(position, reason, error);
	record_failures(ledger->ring[position].counter, reason, error, 1);
}

/* The kernel refused the frame that the program redirected last. */
static __always_inline void record_last_frame(struct ledger *ledger, const struct bpf_prog *xdp,
					      __u16 reason, __u16 error)
{
	__u32 program = xdp->aux->id;

	if (has_frames_of(ledger, program)) {
		pop_last(ledger, reason, error);
		return;
	}
	if ((ledger->generic_program & ~CAPTURED) != program)
		return;
	if (ledger->generic_program & CAPTURED)
		tell_of_last(reason, error);
	record_failures(ledger->generic_counter, reason, error, 1);
}

/* The kernel did not take a frame. The XDP program that redirected it has just returned. */
SEC("tp_btf/xdp_redirect_err")
int BPF_PROG(redirect_err, const struct net_device *dev, const struct bpf_prog *xdp, const void *to,
	     int error, int map_type, __u32 map_id, __u32 index)
{
	struct ledger *ledger = this_cpu_ledger();

	if (!ledger || !egress_id || map_id != egress_id)
		return 0;
	call_teller(ctx, &redirect_err_to, !has_frames_of(ledger, xdp->aux->id));
	record_last_frame(ledger, xdp, reason_of_error(-error), -error);
	return 0;
}

/*
 * How many frames of the device are not known to be handed over. A global function, so that the
 * verifier walks its loop once.
 */
__noinline __u32 count_waiting(struct ledger *ledger, __u32 ifindex)
{
	__u32 frames = 0;

	if (!ledger)
		return 0;
	for (__u32 i = 0; i < LEDGER_FRAMES && i < ledger->appended; i++) {
		__u32 counter = ledger->ring[i].counter;

		if ((ledger->ring[i].ifindex & ~CAPTURED) != ifindex)
			continue;
		if (counter & FLUSHED)
			frames -= counter & ~FLUSHED;
		else
			frames++;
	}
	return frames;
}

/* A search for the frames of a queue that its device did not take. */
struct lost_frames {
	const struct ledger *ledger;
	__u32 ifindex;
	__u16 reason;
	__u16 error;
	__u32 skip;    /* frames of the device that were redirected after the queue was full */
	__u32 missing; /* frames still to be found */
	__u32 counter; /* backend of the frames found last, */
	__u32 found;   /* and their number; they are not recorded yet */
};

/* A step of bpf_loop, from the last entry backwards: 1 ends it. */
static long find_lost_frame(__u32 step, void *arg)
{
	struct lost_frames *lost = arg;
	const struct ledger *ledger = lost->ledger;
	__u32 position = (ledger->appended - 1 - step) % LEDGER_FRAMES;
	const struct ledger_entry *entry = &ledger->ring[position];

	if ((entry->ifindex & ~CAPTURED) != lost->ifindex || entry->counter & FLUSHED)
		return 0;
	if (lost->skip) {
		lost->skip--;
		return 0;
	}
	if (entry->ifindex & CAPTURED)
		tell_of(position, lost->reason, lost->error);
	if (entry->counter != lost->counter) {
		if (lost->found)
			record_failures(lost->counter, lost->reason, lost->error, lost->found);
		lost->counter = entry->counter;
		lost->found = 0;
	}
	lost->found++;
	return --lost->missing == 0;
}

/*
 * Finds the backends of the frames that a device did not take. Drivers take frames in their order,
 * so the lost ones are the last ones of the queue. A tap in native mode hands over a frame whose
 * buffer has no room for XDP as generic mode does, and no tracing program sees that: such a frame
 * stays in the ring, before those of the queue.
 */
static __always_inline void record_drops(struct ledger *ledger, __u32 ifindex, __u32 queued,
					 __u32 drops, __u16 reason, __u16 error)
{
	struct lost_frames lost = {
		.ledger = ledger,
		.ifindex = ifindex,
		.reason = reason,
		.error = error,
		.missing = drops,
		.counter = unknown_zero,
		.found = unknown_zero,
	};
	__u32 appended = ledger->appended;
	bool is_full = queued >= DEV_MAP_BULK_SIZE;

	if (is_full)
		lost.skip = count_waiting(ledger, ifindex) > queued;
	if (!is_full || appended <= LEDGER_FRAMES)
		bpf_loop(appended < LEDGER_FRAMES ? appended : LEDGER_FRAMES, find_lost_frame,
			 &lost, 0);
	if (lost.found)
		record_failures(lost.counter, reason, error, lost.found);
	if (lost.missing)
		record_failures(UNATTRIBUTED, reason, error, lost.missing);
}

/* A port of a bond runs the bond's program, so the kernel names the port here. */
static __always_inline bool is_ingress(const struct ledger *ledger, const struct net_device *dev)
{
	if (!is_in_our_netns(dev))
		return false;
	return (__u32)dev->ifindex == ledger->ingress || dev->flags & IFF_SLAVE;
}

/*
 * The kernel has handed a queue of frames to its device: a full one when the next frame comes,
 * which the XDP program has written down already, and any one at the end of a poll. No other
 * program's frames come while some wait.
 */
SEC("tp_btf/xdp_devmap_xmit")
int BPF_PROG(devmap_xmit, const struct net_device *from, const struct net_device *to, int sent,
	     int drops, int error)
{
	struct ledger *ledger = this_cpu_ledger();
	__u32 frames = sent + drops;

	if (!ledger || ledger->appended - ledger->retired < frames || !is_ingress(ledger, from))
		return 0;
	if (drops > 0) {
		call_teller(ctx, &devmap_xmit_to, false);
		record_drops(ledger, to->ifindex, frames, drops, reason_of_driver(to, -error),
			     -error);
	}
	retire_frames(ledger, to->ifindex, frames);
	return 0;
}

/*
 * The kernel handed over a single frame, and the queue was stopped or the device refused it. It
 * reports that as XDP_TX, which the XDP program itself never returns.
 */
SEC("tp_btf/xdp_exception")
int BPF_PROG(exception, const struct net_device *dev, const struct bpf_prog *xdp, __u32 action)
{
	struct ledger *ledger = this_cpu_ledger();

	if (!ledger || action != XDP_TX)
		return 0;
	call_teller(ctx, &exception_to, !has_frames_of(ledger, xdp->aux->id));
	record_last_frame(ledger, xdp, FAILURE_QUEUE_FULL, 0);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
