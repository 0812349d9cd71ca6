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

/* Reads which address and port the client asked, and whose answer it is. False where the connection
 * has gone meanwhile. */
static __always_inline bool read_client(struct action *action, __u32 number, __u64 id,
					__be16 *asked_port)
{
	const struct flow_entry *request = entry_at(number);
	volatile const struct flow_entry *now;
	__u64 word0, word1, word2 = 0, word3 = 0, word4 = 0;

	if (!request || id_of(request) != id)
		return false;
	now = (void *)request + after(id);
	word0 = now->key.word[0];
	word1 = now->key.word[1];
	if (word0 >> 56 == FAMILY_IPV6) {
		word2 = now->key.word[2];
		word3 = now->key.word[3];
		word4 = now->key.word[4];
		*(__u64 *)action->addr = word1;
		*(__u64 *)(action->addr + 2) = word2;
		*(__u64 *)action->snat = word3;
		*(__u64 *)(action->snat + 2) = word4;
	} else {
		action->addr[0] = word1;
		action->snat[0] = word1 >> 32;
	}
	action->port = word0;
	*asked_port = word0 >> 16;
	return id_of((void *)request + after(word0 ^ word1 ^ word2 ^ word3 ^ word4)) == id;
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
 * Makes the action for an answer of the connection that an entry is of, and prepares the redirect.
 * The result is the source port, which is the one that the client asked; 0: the connection has
 * gone. Neither static nor inlined, so that the verifier walks it once.
 */
__noinline __u32 make_answer(__u32 number, __u64 id)
{
	struct flow_entry *answer = entry_at(number);
	struct scratch *mine = this_cpu_scratch();
	struct action *action;
	__be16 port;
	__u16 flags;

	if (!answer || !mine) /* never; the verifier doesn't know */
		return 0;
	action = &mine->action;
	if (!read_client(action, *(volatile __u32 *)&answer->peer, id, &port))
		return 0;
	flags = answer->flags;
	action->kind = ACTION_ANSWER;
	action->pops = flags & ANSWER_POPS ? 1 : 0;
	action->flags = REWRITE_SNAT | REWRITE_DECREMENT_TTL | REWRITE_INNER_VLAN;
	if (flags & ANSWER_COMPLETES_CHECKSUM)
		action->flags |= REWRITE_COMPLETES_CHECKSUM;
	if (answer->vlan)
		action->flags |= REWRITE_PUSH_VLAN;
	action->vlan = answer->vlan;
	action->ifindex = answer->ifindex;
	__builtin_memcpy(action->frame, answer->frame, sizeof(action->frame));
	action->counter = UNATTRIBUTED;
	action->too_long = TOO_LONG_ICMP;
	if (id_of(answer) != id)
		return 0;
	if (!is_reachable(flags) || !prepare_redirect(action->ifindex))
		hand_over(action);
	return port;
}

#endif
