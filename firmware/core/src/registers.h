/* Which registers inline assembly can have, by what a build is compiled for. */
#ifndef THIMBLE_REGISTERS_H
#define THIMBLE_REGISTERS_H

/* A compiler that was told -Os keeps off the high registers of a Cortex-M0, which inline assembly then cannot have; clang
 * does always. */
#if defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__) && !defined(__clang__)
#define THIMBLE_HAS_HIGH_REGISTERS 1
#else
#define THIMBLE_HAS_HIGH_REGISTERS 0
#endif

#endif
