// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "xdpredir.h"

#define NULL ((void *)0)

/* Each interface loads its own copy: the verifier folds the mode away. */
const volatile struct interface interface = {};

#include "maps.h"
#include "count.h"
#include "parse.h"
#include "match.h"
#include "balance.h"
#include "checksum.h"
#include "rewrite.h"

/* XDP_REDIRECT: rewritten and aimed at a backend. XDP_PASS: not one byte changed. */
static __always_inline int redirect(struct xdp_md *ctx, void *data, void *end)
{
	struct packet pkt = {};
	const struct backend *backend;
	struct rule *rule;

	if (!parse(&pkt, data, end))
		return XDP_PASS;
	rule = match(&pkt);
	if (!rule)
		return XDP_PASS;
	backend = balance(rule, &pkt);
	if (!backend || !fits(ctx, backend, end - data))
		return XDP_PASS;

	rewrite(ctx, &pkt, backend);
	count(&counters, backend->counter, end - data);
	return XDP_REDIRECT;
}

SEC("xdp")
int xdpredir(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	int action = redirect(ctx, data, end);

	count(&actions, action, end - data);
	return action;
}

char _license[] SEC("license") = "Dual BSD/GPL";
