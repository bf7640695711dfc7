/*
 * Lets a test fail the library's allocations one by one, and count what is still allocated.
 *
 *     for (size_t k = 0;; k++) {
 *         size_t before = alloc_live();
 *         fail_alloc_after(k);
 *         nf_status st = thing_under_test();
 *         bool failed = fail_alloc_off();
 *         cr_assert_eq(alloc_live(), before);
 *         if (!failed)
 *             break;
 *         cr_assert_eq(st, NF_ENOMEM);
 *     }
 */
#ifndef FAIL_ALLOC_H
#define FAIL_ALLOC_H
#include <stdbool.h>
#include <stddef.h>

/* The next k allocations succeed; all later ones fail, until fail_alloc_off. */
void fail_alloc_after(size_t k);
/* The same, but only one allocation fails. */
void fail_alloc_once(size_t k);
/* The same for nf_arena_alloc: one piece of an arena is not to be had, though most come from a chunk with room left. */
void fail_arena_once(size_t k);
/* Allocations succeed again; true if one was failed. */
bool fail_alloc_off(void);
/* Blocks the library has allocated and not freed. */
size_t alloc_live(void);
/* Allocations the library has made since the program started. */
size_t alloc_count(void);
/* Bytes the library has allocated and not freed; the most it held since alloc_peak was last called. */
size_t alloc_bytes(void);
size_t alloc_peak(void);
/* The most memory that the process has held at once. */
size_t peak_megabytes(void);

#endif
