/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The files of this folder are the ABI between the BPF programs and the command: keys, values and
 * limits of the pinned maps. Types are __uN only and have no implicit padding, because Rust reads
 * and writes their bytes. build.rs makes a Rust constant of each `#define NAME NUMBER`.
 *
 * The number is part of the pins' path. A change that moves a byte of a map, or renames a map,
 * needs a new one: otherwise two versions of the command would misread each other's maps.
 */
#ifndef __ABI_VERSION_H__
#define __ABI_VERSION_H__

#define XDPREDIR_ABI 6

#endif
