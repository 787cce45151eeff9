/* Included first by sources whose loops run once for each weight or activation: compiled for speed, whatever the rest
 * of a build is compiled for. Arduino cores and many projects know -Os alone; -O2 for these sources is better by some
 * per cent still. */
#ifndef THIMBLE_FAST_H
#define THIMBLE_FAST_H

/* A compiler that was told -Os keeps off the high registers of a Cortex-M0, which inline assembly then cannot have; clang
 * does always. */
#if defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__) && !defined(__clang__)
#define THIMBLE_HAS_HIGH_REGISTERS 1
#else
#define THIMBLE_HAS_HIGH_REGISTERS 0
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O2")
#endif

#endif
