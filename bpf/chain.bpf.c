// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The entry of a chain: asks other people's XDP programs one after the other, and ours last. It is
 * attached in the place of ours while an interface has a chain.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/chain.h"

/* The verifier knows the values, and walks no further than to the last program. */
const volatile struct chain chain = {};

/*
 * The programs of the chain, and ours behind them. It never changes once the entry is attached:
 * another chain is another entry with other slots.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, CHAIN_PROGRAMS + 1);
	__type(key, __u32);
	__type(value, __u32);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CHAIN_COUNTERS);
	__type(key, __u32);
	__type(value, struct chain_counters);
} verdicts SEC(".maps");

/* No verdict of XDP, and none that a program returns by mistake, as it may -1. */
#define NOT_ASKED 0x78647072

/*
 * Has a program decide about the packet: the tail call returns its verdict to the caller of this
 * function. It has to be a global function, which the verifier walks alone. With a static one,
 * older verifiers take it that nothing but a failed call returns, and remove what handles verdicts.
 */
__noinline int ask(struct xdp_md *ctx, __u32 slot)
{
	int verdict = NOT_ASKED;

	bpf_tail_call(ctx, &slots, slot);
	barrier_var(verdict); /* the compiler thinks so, too */
	return verdict;
}

static __always_inline void count(__u32 index, __u32 verdict)
{
	struct chain_counters *counters = bpf_map_lookup_elem(&verdicts, &index);
	__u64 kind = verdict;

	if (verdict == NOT_ASKED)
		kind = CHAIN_SKIPPED;
	else if (verdict >= CHAIN_VERDICTS)
		kind = XDP_ABORTED;
	/* Verifiers of Linux 6.1 do not know of a copy what they know of the number. */
	barrier_var(kind);
	if (counters && kind <= CHAIN_SKIPPED) /* always; the verifier doesn't know */
		counters->packets[kind]++;
}

/*
 * A program may change the packet, and this one does not look at it. A call fails where programs of
 * the chain have used up the calls that the kernel allows: such a program is skipped, and a packet
 * that does not get to ours goes to the stack as it is.
 */
SEC("xdp")
int xdpredir_chain(struct xdp_md *ctx)
{
	for (__u32 i = 0; i < CHAIN_PROGRAMS && i < chain.count; i++) {
		__u32 verdict = ask(ctx, i);

		count(chain.program[i].counters, verdict);
		if (verdict == NOT_ASKED)
			continue;
		if (verdict >= CHAIN_VERDICTS || !(chain.program[i].on & 1 << verdict))
			return verdict;
	}
	bpf_tail_call(ctx, &slots, CHAIN_PROGRAMS);
	count(CHAIN_OURS, NOT_ASKED);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
