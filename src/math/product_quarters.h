/* Products for the last columns of a tile, if these fill at most a quarter of a vector of 64 bytes. The columns of two
   rows are put together in one vector of 32 bytes, since a vector of 16 bytes costs as much. Instruction sets with
   shorter vectors have no quarters. */
#ifndef NFI_PRODUCT_QUARTERS_H
#define NFI_PRODUCT_QUARTERS_H
#include "math/product_kernel.h"

#if NFI_VECTOR_BYTES == 64
enum { QUARTERS = true, QUARTER = VEC / 4 };
typedef nf_real quarter __attribute__((vector_size(16)));
typedef nf_real pair __attribute__((vector_size(32)));
typedef quarter quarter_at __attribute__((aligned(sizeof(nf_real)), may_alias));
typedef struct quarters {
    pair of[ROWS / 2]; /* the first row's numbers below, the second row's above */
} quarters;

#ifdef NF_SINGLE
#define BOTH(q) __builtin_shufflevector(q, q, 0, 1, 2, 3, 0, 1, 2, 3)
#define FIRST_OF(p) __builtin_shufflevector(p, p, 0, 1, 2, 3)
#define SECOND_OF(p) __builtin_shufflevector(p, p, 4, 5, 6, 7)
#define FIRST_AND_SECOND(p, q) __builtin_shufflevector(p, q, 0, 1, 2, 3, 12, 13, 14, 15)
#else
#define BOTH(q) __builtin_shufflevector(q, q, 0, 1, 0, 1)
#define FIRST_OF(p) __builtin_shufflevector(p, p, 0, 1)
#define SECOND_OF(p) __builtin_shufflevector(p, p, 2, 3)
#define FIRST_AND_SECOND(p, q) __builtin_shufflevector(p, q, 0, 1, 6, 7)
#endif

NFI_INLINE void load_quarters(const size_t R, bool add, const nf_real *y, size_t ld, quarters *s)
{
    for (size_t r = 0; r < R; r += 2) {
        const nf_real *at = y + r * ld, *next = r + 1 < R ? at + ld : at;
        const quarter first = add ? LOAD(quarter, at) : (quarter){0}, second = add ? LOAD(quarter, next) : (quarter){0};
        s->of[r / 2] = FIRST_AND_SECOND(BOTH(first), BOTH(second));
    }
}

NFI_INLINE void store_quarters(const size_t R, const quarters *s, size_t ld, nf_real *y)
{
    EACH(r, R) STORE(quarter, y + r * ld, r % 2 ? SECOND_OF(s->of[r / 2]) : FIRST_OF(s->of[r / 2]));
}

/* Adds to the sums of the rows from <= r < to. The weights are loaded again: a load can spread a weight over a whole
   vector, so that no shuffle is needed. (w - 0 is w and costs nothing; w + 0 would turn -0 into 0.) Where only one row
   of a pair is wanted, the other row's half keeps its value. */
NFI_INLINE void add_to_quarters(const size_t from, const size_t to, const nf_real *const *w, size_t k, const nf_real *x,
                                quarters *s)
{
    __asm__("" : "+r"(k)); /* hides from the compiler that it has loaded these weights before */
    for (size_t p = from / 2; p < (to + 1) / 2; p++) {
        const size_t r = 2 * p;
        const pair first = w[r >= from ? r : r + 1][k] - (pair){0}, second = w[r + 1 < to ? r + 1 : r][k] - (pair){0};
        const pair old = s->of[p], sum = old + FIRST_AND_SECOND(first, second) * BOTH(LOAD(quarter, x));
        s->of[p] = r < from ? FIRST_AND_SECOND(old, sum) : r + 1 < to ? sum : FIRST_AND_SECOND(sum, old);
    }
}

/* Whether an operation on half a vector costs half as much. It does not where the arithmetic units are as wide as the
   vectors. */
static inline bool halves_are_cheaper(void)
{
    return __builtin_cpu_is("amd");
}

#else
enum { QUARTERS = false, QUARTER = 0 };
typedef struct quarters {
    char none;
} quarters;
#define load_quarters(R, add, y, ld, s) ((void)0)
#define store_quarters(R, s, ld, y) ((void)0)
#define add_to_quarters(from, to, w, k, x, s) ((void)0)
#define halves_are_cheaper() false
#endif
#endif
