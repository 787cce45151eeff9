/* The three functions of libc that the core uses, for compilers that bring no libc for bare metal. */
#ifndef THIMBLE_STRING_H
#define THIMBLE_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t length);
void *memset(void *to, int byte, size_t length);
int memcmp(const void *a, const void *b, size_t length);

#endif
