/* Transposition by blocks of L x L numbers, where L numbers fill a vector. For h = 1, 2, 4 ..., rows i and i + h of a
   block exchange the lanes whose number differs in bit h. Afterwards lane j of row i is what was lane i of row j. */
#include "math/transpose.h"
#include "base/kernel.h"

enum { L = NFI_WIDTH };

/* The lower and the upper of the two rows after the exchange. Row a's lanes are numbered 0 .. L-1, row b's from L
   on. */
#if NFI_VECTOR_BYTES == 64 && defined(NF_SINGLE) /* 16 numbers */
#define LOWER_1(a, b) __builtin_shufflevector(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
#define UPPER_1(a, b) __builtin_shufflevector(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31)
#define LOWER_2(a, b) __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define UPPER_2(a, b) __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#define LOWER_4(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
#define UPPER_4(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31)
#define LOWER_8(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
#define UPPER_8(a, b) __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31)
#elif NFI_VECTOR_BYTES == 64 || (NFI_VECTOR_BYTES == 32 && defined(NF_SINGLE)) /* 8 */
#define LOWER_1(a, b) __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14)
#define UPPER_1(a, b) __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15)
#define LOWER_2(a, b) __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define UPPER_2(a, b) __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#define LOWER_4(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11)
#define UPPER_4(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15)
#elif NFI_VECTOR_BYTES == 32 || defined(NF_SINGLE) /* 4 */
#define LOWER_1(a, b) __builtin_shufflevector(a, b, 0, 4, 2, 6)
#define UPPER_1(a, b) __builtin_shufflevector(a, b, 1, 5, 3, 7)
#define LOWER_2(a, b) __builtin_shufflevector(a, b, 0, 1, 4, 5)
#define UPPER_2(a, b) __builtin_shufflevector(a, b, 2, 3, 6, 7)
#else /* 2 */
#define LOWER_1(a, b) __builtin_shufflevector(a, b, 0, 2)
#define UPPER_1(a, b) __builtin_shufflevector(a, b, 1, 3)
#endif

#define EXCHANGE(h)                                     \
    for (size_t i = 0; i < L; i++)                      \
        if (!(i & (h))) {                               \
            const nfi_vec a = row[i], b = row[i + (h)]; \
            row[i] = LOWER_##h(a, b);                   \
            row[i + (h)] = UPPER_##h(a, b);             \
        }

NFI_INLINE void block(const nf_real *in, size_t ld_in, nf_real *out, size_t ld_out)
{
    nfi_vec row[L];
    for (size_t i = 0; i < L; i++)
        row[i] = NFI_CONST_VEC_AT(in + i * ld_in);
    EXCHANGE(1)
#ifdef LOWER_2
    EXCHANGE(2)
#endif
#ifdef LOWER_4
    EXCHANGE(4)
#endif
#ifdef LOWER_8
    EXCHANGE(8)
#endif
    for (size_t i = 0; i < L; i++)
        NFI_VEC_AT(out + i * ld_out) = row[i];
}

/* Copies the numbers of the rows from first_row and the columns from first_column on, one by one. */
NFI_INLINE void rest(size_t first_row, size_t rows, size_t first_column, size_t columns, const nf_real *in,
                     size_t ld_in, nf_real *out, size_t ld_out)
{
    for (size_t r = first_row; r < rows; r++)
        for (size_t c = first_column; c < columns; c++)
            out[c * ld_out + r] = in[r * ld_in + c];
}

void nfi_transpose(size_t rows, size_t columns, const nf_real *in, size_t ld_in, nf_real *out, size_t ld_out)
{
    const size_t whole_rows = rows - rows % L, whole_columns = columns - columns % L;
    for (size_t r = 0; r < whole_rows; r += L) {
        for (size_t c = 0; c < whole_columns; c += L)
            block(in + r * ld_in + c, ld_in, out + c * ld_out + r, ld_out);
        rest(r, r + L, whole_columns, columns, in, ld_in, out, ld_out);
    }
    rest(whole_rows, rows, 0, columns, in, ld_in, out, ld_out);
}
