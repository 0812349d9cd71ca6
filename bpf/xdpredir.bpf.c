// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The program: parse, decide by the rules, act, count. Every packet leaves in verdict(). This is
 * its XDP form; xdpredir_tc.bpf.c has the other.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "abi/action.h"
#include "abi/outcomes.h"
#include "announce.h"
#include "balance.h"
#include "converge.h"
#include "counters.h"
#include "egress_checks.h"
#include "follow.h"
#include "fragment.h"
#include "glance.h"
#include "hook.h"
#include "icmp_error.h"
#include "interface.h"
#include "ledger.h"
#include "macs.h"
#include "outcome.h"
#include "parse.h"
#include "plain.h"
#include "policy.h"
#include "reader.h"
#include "rewrite.h"
#include "stand_in.h"
#include "too_big.h"

/* The outcome of a packet that no rule takes. */
static __always_inline __u32 unmatched(const struct packet *pkt)
{
	if (!has_ports(pkt))
		return OUTCOME_NOT_UDP_TCP;
	return pkt->not_unicast_dst || pkt->not_unicast_src ? OUTCOME_NOT_UNICAST : OUTCOME_NO_RULE;
}

/* Finds what becomes of the packet, and prepares it. The packet is not changed. */
static __always_inline __u32 decide(const struct packet *pkt, const struct ethhdr *eth,
				    struct decision *decision, __u32 live)
{
	__u32 outcome;

	if (pkt->fragment == LATER)
		outcome = follow_first(decision);
	else
		outcome = decide_by_flow(pkt, eth, decision, live);
	if (outcome == OUTCOME_NO_RULE)
		return unmatched(pkt);
	if (!outcome && !decision->action) /* never; the verifier doesn't know */
		return OUTCOME_NO_DEVICE;
	return outcome;
}

/* Of plain packets: by what a glance shows of their connections, or else by the rules. */
static __always_inline __u32 decide_plain(const struct packet *pkt, struct decision *decision,
					  __u32 live)
{
	struct choice choice = {};
	__u32 outcome = NOT_KNOWN;

	if (live & LIVE_CONNECTIONS)
		outcome = glance(pkt, decision);
	if (outcome != NOT_KNOWN)
		return outcome;
	if (answers_only(decision->slot))
		return OUTCOME_NO_RULE;
	return decide_by_rules(pkt, &choice, decision);
}

/* These are not outcomes, either: see ASK_RULES. */
#define NOT_PLAIN (OUTCOMES + 3) /* the packet is not one of the plain ones */
#define BEGINS	  (OUTCOMES + 4) /* it begins a connection */

/* Of plain packets: what is left to do takes much of the stack. See act_any and begin. */
#define UNDONE (1ull << BEGINS | 1ull << OUTCOME_TOO_LONG)

/* Writes down in scratch memory what was decided, for another function. */
static __always_inline void put_decision(const struct decision *decision)
{
	struct scratch *mine = this_cpu_scratch();

	if (!mine) /* never; the verifier doesn't know */
		return;
	mine->decided.line = decision->line;
	mine->decided.counter = decision->counter;
	mine->decided.slot = decision->slot;
	mine->decided.sport = decision->sport;
	mine->decided.known = decision->known;
}

/* What became of a packet that is rewritten. */
static __always_inline __u32 rewritten(const struct action *action)
{
	if (action->kind == ACTION_ANSWER)
		return OUTCOME_ANSWERED;
	return action->kind == ACTION_HAND_OVER ? OUTCOME_ANSWER_PASSED : OUTCOME_REDIRECTED;
}

/* 0, or why a packet is not redirected. Nothing that can make it pass comes after this. */
static __always_inline __u32 hinder(struct hook_ctx *ctx, const struct packet *pkt,
				    const struct decision *decision)
{
	const struct action *action = decision->action;

	if (!tags_allow(pkt, action))
		return OUTCOME_TAGS;
	if (!ttl_allows(pkt, action))
		return OUTCOME_TTL;
	if (!mtu_allows(ctx, pkt, action))
		return OUTCOME_TOO_LONG;
	if (pkt->fragment == FIRST && !remember_first())
		return OUTCOME_LATE_FIRST;
	if (may_begin(pkt, decision)) /* that takes much of the stack: see begin */
		return BEGINS;
	return 0;
}

/* Sends the frame out of a device as it is, but for the MAC addresses where the rule has some. */
static __always_inline __u32 forward(struct hook_ctx *ctx, const struct packet *pkt,
				     const struct decision *decision)
{
	const struct action *action = decision->action;

	/* Back to where it came from, it would come again, with the same TTL. */
	if (action->ifindex == ctx->ingress_ifindex)
		return OUTCOME_NO_DEVICE;
	if (!mtu_allows(ctx, pkt, action))
		return OUTCOME_TOO_LONG;
	if (pkt->fragment == FIRST && !remember_first())
		return OUTCOME_LATE_FIRST;
	if (action->flags & REWRITE_MAC)
		write_macs(pkt->eth, action);
	keep_checksum_valid(ctx, pkt, action->flags & REWRITE_COMPLETES_CHECKSUM);
	return OUTCOME_FORWARDED;
}

/*
 * For a rule that passes, drops, or takes packets for a socket. The later fragments of a datagram
 * follow the first one, or they would meet another rule or the policy.
 */
static __always_inline __u32 settle(struct hook_ctx *ctx, const struct packet *pkt,
				    const struct decision *decision)
{
	if (pkt->fragment == FIRST)
		remember_first();
	if (decision->action->kind == ACTION_DROP)
		return OUTCOME_DROPPED_BY_RULE;
	if (!(decision->action->flags & REWRITE_TO_SOCKET))
		return OUTCOME_PASSED_BY_RULE;
	return hand_to_reader(ctx) ? OUTCOME_TO_SOCKET : OUTCOME_NO_READER;
}

/* Rewrites and redirects a packet that nothing hinders. */
static __always_inline __u32 redirect(struct hook_ctx *ctx, const struct packet *pkt,
				      const struct decision *decision)
{
	const struct action *action = decision->action;

	if (!rewrite(ctx, pkt, decision))
		return OUTCOME_NO_HEADROOM;
	if (action->kind != ACTION_HAND_OVER)
		record_redirect(ctx, action->ifindex, decision->counter);
	count_action(decision->counter, pkt->size);
	return rewritten(action);
}

/* Does all that an action says but to redirect. 0: that is what is left to do. */
static __always_inline __u32 prepare(struct hook_ctx *ctx, const struct packet *pkt,
				     const struct decision *decision)
{
	__u32 kind = decision->action->kind, outcome;

	show_decision(decision);
	if (kind == ACTION_REDIRECT || kind == ACTION_DRAINING || kind == ACTION_ANSWER ||
	    kind == ACTION_HAND_OVER)
		return hinder(ctx, pkt, decision);
	if (kind == ACTION_FORWARD)
		outcome = forward(ctx, pkt, decision);
	else
		outcome = settle(ctx, pkt, decision);
	if (outcome == OUTCOME_FORWARDED)
		record_redirect(ctx, decision->action->ifindex, decision->counter);
	if (is_by_rule(outcome))
		count_action(decision->counter, pkt->size);
	return outcome;
}

/*
 * The outcome of a plain packet whose connection a glance has not shown; NOT_KNOWN, ASK_RULES or
 * NOT_PLAIN where that doesn't decide. This function and others below are neither static nor
 * inlined, so that the verifier walks what comes after them once, and not for every path through
 * them, and so that what one has on the stack is gone before the next one runs. Those for most
 * packets are inlined, because each return costs some 8 ns where the kernel mitigates returns.
 */
__noinline __u32 follow_plain(struct hook_ctx *ctx, __u32 live)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct packet pkt = {.size = frame_size(ctx)};
	struct decision decision = {.slot = live & LIVE_SLOT};
	__u32 outcome;

	if (!parse_plain(ctx, &pkt, data, end) && !parse_plain6(ctx, &pkt, data, end))
		return NOT_PLAIN;
	/* Hidden from the compiler, or what follows would be there twice, and take more stack. */
	asm volatile("" : "+r"(pkt.family));
	outcome = decide_by_connection(&pkt, &decision);
	if (outcome)
		return outcome;
	if (!decision.action) /* never; the verifier doesn't know */
		return OUTCOME_NO_DEVICE;
	outcome = hinder(ctx, &pkt, &decision);
	if (is_one_of(UNDONE, outcome))
		put_decision(&decision);
	return outcome ?: redirect(ctx, &pkt, &decision);
}

/* The outcome of a plain packet that was parsed. */
static __always_inline __u32 judge(struct hook_ctx *ctx, const struct packet *pkt, __u32 live)
{
	struct decision decision = {.slot = live & LIVE_SLOT};
	__u32 outcome;

	outcome = decide_plain(pkt, &decision, live) ?: prepare(ctx, pkt, &decision);
	if (!outcome)
		return redirect(ctx, pkt, &decision);
	if (is_one_of(UNDONE, outcome))
		put_decision(&decision);
	return is_unmatched(outcome) ? apply_policy(ctx, pkt, outcome, decision.slot) : outcome;
}

/* The outcome of what most packets are. */
static __always_inline __u32 judge_plain(struct hook_ctx *ctx, __u32 live, __u32 size)
{
	struct packet pkt = {.size = size};

	if (!parse_plain(ctx, &pkt, (void *)(long)ctx->data, (void *)(long)ctx->data_end))
		return NOT_PLAIN;
	return judge(ctx, &pkt, live);
}

/* The same behind a tag. */
static __always_inline __u32 judge_tagged(struct hook_ctx *ctx, __u32 live, __u32 size)
{
	struct packet pkt = {.size = size};
	__u32 outcome;

	if (!parse_tagged(ctx, &pkt, (void *)(long)ctx->data, (void *)(long)ctx->data_end))
		return NOT_PLAIN;
	outcome = judge(ctx, &pkt, live);
	return outcome == LOOK_CLOSER ? NOT_PLAIN : outcome; /* follow_plain reads no tags */
}

/* The same for IPv6. */
__noinline __u32 judge_plain6(struct hook_ctx *ctx, __u32 live)
{
	struct packet pkt = {.size = frame_size(ctx)};

	if (!parse_plain6(ctx, &pkt, (void *)(long)ctx->data, (void *)(long)ctx->data_end))
		return NOT_PLAIN;
	return judge(ctx, &pkt, live);
}

/* The outcome of a frame by its type, where judge_plain has not taken it. */
static __always_inline __u32 judge_by_type(struct hook_ctx *ctx, __u32 live, __u32 size)
{
	const struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return NOT_PLAIN;
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return judge_plain6(ctx, live);
	return is_tag(eth->h_proto) ? judge_tagged(ctx, live, size) : NOT_PLAIN;
}

/* False where the packet has to go the way of those that are not plain. */
static __always_inline bool is_judged(__u32 outcome)
{
	return outcome < OUTCOMES || outcome == BEGINS;
}

/* Decides about the packet that parse_any has read. */
__noinline __u32 decide_any(struct hook_ctx *ctx, __u32 live)
{
	const struct ethhdr *eth = (void *)(long)ctx->data;
	struct decision decision = {.slot = live & LIVE_SLOT};
	struct scratch *mine = this_cpu_scratch();
	__u32 outcome;

	if (!mine || (void *)(eth + 1) > (void *)(long)ctx->data_end) /* never */
		return OUTCOME_MALFORMED;
	if (mine->parsed.fragment != WHOLE)
		name_datagram(&mine->parsed);
	outcome = decide(&mine->parsed, eth, &decision, live);
	put_decision(&decision);
	return outcome;
}

/* Has the action that was decided on in scratch memory. False where it is gone. */
static __always_inline bool find_action(struct scratch *mine)
{
	const struct action *line;

	if (!mine->decided.line)
		return true;
	line = line_at(mine->decided.line);
	if (line)
		mine->action = *line;
	return line;
}

/* What was decided for the packet that parse_any has read, with its action in scratch memory. */
static __always_inline struct decision load_decision(struct scratch *mine)
{
	return (struct decision){
		.action = &mine->action,
		.counter = mine->decided.counter,
		.sport = mine->decided.sport,
		.known = mine->decided.known,
	};
}

/* Like prepare, for the packet that parse_any has read. */
__noinline __u32 prepare_any(struct hook_ctx *ctx)
{
	struct scratch *mine = this_cpu_scratch();
	struct decision decision;
	struct packet pkt;

	if (!mine || !load_packet(ctx, &pkt))
		return OUTCOME_MALFORMED; /* never; the verifier doesn't know */
	if (!find_action(mine))
		return OUTCOME_NO_DEVICE;
	decision = load_decision(mine);
	return prepare(ctx, &pkt, &decision);
}

/* Redirects it, where nothing hinders that. */
__noinline __u32 redirect_any(struct hook_ctx *ctx)
{
	struct scratch *mine = this_cpu_scratch();
	struct decision decision;
	struct packet pkt;

	if (!mine || !load_packet(ctx, &pkt))
		return OUTCOME_MALFORMED; /* never; the verifier doesn't know */
	decision = load_decision(mine);
	show_decision(&decision); /* a connection that begins may have another source port */
	return redirect(ctx, &pkt, &decision);
}

/*
 * Whether an answer that is too long for the client's device is handed to the stack, which divides
 * it. In generic mode, a server on this host hands over several segments of an answer as one frame.
 */
static __always_inline bool stack_divides(struct hook_ctx *ctx, const struct packet *pkt,
					  struct action *action)
{
	if (action->kind == ACTION_HAND_OVER)
		return pkt->fragment == LATER ||
		       is_left_to_stack(ctx, action->ifindex, pkt->ip_offset,
					pkt->ip_offset + packet_length(ctx, pkt), pkt->tags);
	if (interface.mode != MODE_SKB || action->kind != ACTION_ANSWER ||
	    pkt->size - pkt->ip_offset <= longest_packet(ctx, interface.ifindex, pkt->tags))
		return false;
	hand_over(action);
	return true;
}

/* The outcome where it is too long. 0: it is redirected for all that. */
__noinline __u32 refuse(struct hook_ctx *ctx)
{
	struct scratch *mine = this_cpu_scratch();
	struct packet pkt;

	if (!mine || !load_packet(ctx, &pkt))
		return OUTCOME_MALFORMED; /* never; the verifier doesn't know */
	if (!stack_divides(ctx, &pkt, &mine->action))
		return refuse_too_long(ctx, &pkt, &mine->action);
	return pkt.fragment == FIRST && !remember_first() ? OUTCOME_LATE_FIRST : 0;
}

/* Does what was decided for it. */
static __always_inline __u32 act_any(struct hook_ctx *ctx)
{
	__u32 outcome = prepare_any(ctx);

	if (outcome == OUTCOME_TOO_LONG)
		outcome = refuse(ctx);
	return outcome ?: redirect_any(ctx);
}

/*
 * Begins the connection of the packet that parse_any has read, with what was decided for it. 0: the
 * packet is to be redirected, also where it is none with which a connection begins.
 */
__noinline __u32 begin(struct hook_ctx *ctx)
{
	const struct ethhdr *eth = (void *)(long)ctx->data;
	struct scratch *mine = this_cpu_scratch();
	__u32 begun;

	if (!mine || (void *)(eth + 1) > (void *)(long)ctx->data_end) /* never */
		return OUTCOME_NO_CONNECTION;
	if (!find_action(mine))
		return OUTCOME_NO_DEVICE;
	mine->decided.known = true;
	if (!begins(&mine->parsed))
		return 0;
	describe_opening(&mine->parsed, eth, mine->decided.slot);
	begun = begin_connection(mine->decided.line, mine->decided.counter);
	if (begun != OPENED)
		return begun == PORT_TAKEN ? OUTCOME_NO_SOURCE_PORT : OUTCOME_NO_CONNECTION;
	mine->decided.sport = mine->opening.port;
	return 0;
}

/* What is left to do where any packet but a plain one has this outcome. */
__noinline __u32 settle_any(struct hook_ctx *ctx, __u32 outcome)
{
	struct scratch *mine = this_cpu_scratch();

	if (!mine) /* never; the verifier doesn't know */
		return outcome;
	if (mine->parsed.fragment == FIRST && !is_by_rule(outcome))
		forget_first();
	return is_unmatched(outcome)
		       ? apply_policy(ctx, &mine->parsed, outcome, mine->decided.slot & LIVE_SLOT)
		       : outcome;
}

/* Sends an ICMP error on as decide_by_quote has decided, with what it quotes. */
static __always_inline __u32 act_by_quote(struct hook_ctx *ctx)
{
	__u32 outcome = act_any(ctx);

	if (is_by_rule(outcome))
		translate_quote(ctx);
	return outcome;
}

/* Parses any packet. Its headers may be longer than what lies between data and data_end. */
static __always_inline __u32 parse_long(struct hook_ctx *ctx)
{
	__u32 outcome = parse_any(ctx), all = MAX_L4_OFFSET + sizeof(struct tcphdr);

	if (outcome == OUTCOME_TRUNCATED && pull_headers(ctx, all, all))
		return parse_any(ctx);
	return outcome;
}

/* The outcome of any packet but a plain one, as far as its connection stands. */
static __always_inline __u32 judge_any(struct hook_ctx *ctx, __u32 live)
{
	__u32 outcome = answer_neighbour(ctx, live, parse_long(ctx));

	if (outcome)
		return outcome;
	if (read_quote(ctx) && decide_by_quote(live))
		return act_by_quote(ctx);
	outcome = decide_any(ctx, live) ?: act_any(ctx);
	return outcome == OUTCOME_NOT_UDP_TCP ? answer_echo(ctx) : outcome;
}

/* The outcome of a packet that judge_plain has not judged. */
static __always_inline __u32 judge_closer(struct hook_ctx *ctx, __u32 live, __u32 size,
					  __u32 outcome)
{
	bool plain;

	if (outcome == NOT_PLAIN)
		outcome = judge_by_type(ctx, live, size);
	if (outcome == LOOK_CLOSER) /* showing takes stack that follow_plain has not */
		outcome = interface.shows ? NOT_PLAIN : follow_plain(ctx, live);
	plain = is_judged(outcome);
	if (!plain)
		outcome = judge_any(ctx, live);
	if (is_one_of(UNDONE, outcome) && plain)
		parse_any(ctx);
	if (outcome == OUTCOME_TOO_LONG && plain)
		outcome = act_any(ctx);
	if (outcome == BEGINS)
		outcome = begin(ctx) ?: redirect_any(ctx);
	return plain ? outcome : settle_any(ctx, outcome);
}

/* The outcome of a frame, which is counted under it. */
static __always_inline __u32 process(struct hook_ctx *ctx, __u32 live)
{
	__u32 size = frame_size(ctx), outcome;

	pull_headers(ctx, PLAIN4_L4 + sizeof(struct tcphdr), PLAIN6_L4 + sizeof(struct tcphdr));
	outcome = is_away(ctx) ? OUTCOME_NO_DEVICE : judge_plain(ctx, live, size);
	if (outcome >= OUTCOMES || outcome == OUTCOME_TOO_LONG)
		outcome = judge_closer(ctx, live, size, outcome);
	if (outcome == OUTCOME_TOO_BIG_SENT)
		outcome = answer_too_big(ctx);
	count_outcome(outcome, size);
	return outcome;
}

SEC(HOOK_SECTION)
int xdpredir(struct hook_ctx *ctx)
{
	int taken = step_in(ctx), result;
	__u32 live, outcome;

	if (taken != GO_ON)
		return taken;
	live = read_live();
	/* That it is unlikely leaves the compiler the registers and the stack for what follows. */
	if (__builtin_expect(live & LIVE_DORMANT, 0) && is_dormant(live))
		return HOOK_PASS;
	outcome = process(ctx, live);
	result = verdict(outcome);
	look_back(ctx, outcome, result);
	return result;
}

char _license[] SEC("license") = "Dual BSD/GPL";
