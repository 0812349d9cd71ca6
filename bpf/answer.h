/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Answers leave with the address and port that the client asked, to the client. That is an action
 * like those of rules, which the connection says, and which lies in scratch memory.
 */
#ifndef __ANSWER_H__
#define __ANSWER_H__

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/action.h"
#include "abi/connection.h"
#include "abi/ledger.h"
#include "balance.h"
#include "connection.h"
#include "flow_table.h"
#include "interface.h"
#include "scratch.h"

/* Reads which address of IPv6 the client has, and which it asked. False where the connection has
 * gone meanwhile. */
static __always_inline bool read_addresses6(struct action *action, __u32 number, __u64 id)
{
	const struct flow_entry *request = entry_at(number);
	volatile const struct flow_entry *now;
	__u64 word1, word2, word3, word4;

	if (!request || id_of(request) != id)
		return false;
	now = (void *)request + after(id);
	word1 = now->key.word[1];
	word2 = now->key.word[2];
	word3 = now->key.word[3];
	word4 = now->key.word[4];
	*(__u64 *)action->addr = word1;
	*(__u64 *)(action->addr + 2) = word2;
	*(__u64 *)action->snat = word3;
	*(__u64 *)(action->snat + 2) = word4;
	return id_of((void *)request + after(word1 ^ word2 ^ word3 ^ word4)) == id;
}

/*
 * Natively, a frame that is redirected to a device that does not take such frames is lost. The
 * stack brings the packet to the client there.
 */
static __always_inline bool is_reachable(__u32 flags)
{
	return interface.mode != MODE_NATIVE || flags & ANSWER_REACHABLE;
}

/*
 * For the stack, which decrements the TTL and writes the MAC addresses. The packet's buffer keeps
 * its mark where the checksum is partial: see checksum.h.
 */
static __always_inline void hand_over(struct action *action)
{
	action->kind = ACTION_HAND_OVER;
	action->pops = 0;
	action->flags = REWRITE_SNAT | REWRITE_COMPLETES_CHECKSUM;
}

/*
 * Makes the action for an answer of the connection that an entry is of. The result is the source
 * port, which is the one that the client asked; 0: the connection has gone.
 */
static __always_inline __u32 describe_answer(struct action *action, const struct flow_entry *answer,
					     __u64 id, bool is_ipv6)
{
	volatile const struct flow_entry *now = (void *)answer + after(id);
	__u64 macs = *(volatile __u64 *)now->frame, addrs = now->request_addrs;
	__u32 more_macs = *(volatile __u32 *)(now->frame + 8), ports = now->request_ports;
	__u32 ifindex = now->ifindex, flags = now->flags;
	__be16 vlan = now->vlan;

	if (is_ipv6 && !read_addresses6(action, now->peer, id))
		return 0;
	if (!is_ipv6) {
		action->addr[0] = addrs;
		action->snat[0] = addrs >> 32;
	}
	action->port = ports;
	action->kind = is_reachable(flags) ? ACTION_ANSWER : ACTION_HAND_OVER;
	action->pops = flags & ANSWER_POPS ? 1 : 0;
	action->flags = REWRITE_SNAT | REWRITE_DECREMENT_TTL | REWRITE_INNER_VLAN;
	if (flags & ANSWER_COMPLETES_CHECKSUM)
		action->flags |= REWRITE_COMPLETES_CHECKSUM;
	if (vlan)
		action->flags |= REWRITE_PUSH_VLAN;
	action->vlan = vlan;
	action->ifindex = ifindex;
	*(__u64 *)action->frame = macs;
	*(__u32 *)(action->frame + 8) = more_macs;
	action->counter = UNATTRIBUTED;
	action->too_long = TOO_LONG_ICMP;
	macs ^= addrs ^ more_macs ^ ports ^ ifindex ^ flags ^ vlan;
	return id_of((void *)answer + after(macs)) == id ? ports >> 16 : 0;
}

/* Prepares the redirect of an answer. False where the stack has to bring it to the client. */
static __always_inline bool is_redirected(const struct action *action)
{
	return action->kind == ACTION_ANSWER && prepare_redirect(action->ifindex);
}

/*
 * The same as describe_answer, and prepares what becomes of the packet. Neither static nor inlined,
 * so that the verifier walks it once.
 */
__noinline __u32 make_answer(__u32 number, __u64 id)
{
	struct flow_entry *answer = entry_at(number);
	struct scratch *mine = this_cpu_scratch();
	__u32 port;

	if (!answer || !mine) /* never; the verifier doesn't know */
		return 0;
	port = describe_answer(&mine->action, answer, id, is_ipv6_flow(&answer->key));
	if (port && !is_redirected(&mine->action))
		hand_over(&mine->action);
	return port;
}

#endif
