/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* From a backend to the frame that it gets. */
#ifndef __REWRITE_H__
#define __REWRITE_H__

static __always_inline void rewrite(struct xdp_md *ctx, const struct packet *pkt,
				    const struct backend *backend)
{
	struct iphdr *ip = pkt->ip;

	*pkt->check = l4_checksum(ctx, pkt, backend);
	ip->check = replace(ip->check, ip->daddr, backend->addr);
	ip->daddr = backend->addr;
	__builtin_memcpy(pkt->eth, backend->frame, sizeof(backend->frame));
}

#endif
