/* Included first by sources whose loops run once for each weight or activation: compiled for speed, whatever the rest
 * of a build is compiled for. Arduino cores and many projects know -Os alone; -O2 for these sources is better by some
 * per cent still. */
#ifndef THIMBLE_FAST_H
#define THIMBLE_FAST_H

#include "registers.h" /* before the optimisation changes */

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O2")
#endif

#endif
