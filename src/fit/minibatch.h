/* Rows of a data set as tiles: shuffled minibatches for training, consecutive rows for scoring, binarised on the way.
 */
#ifndef NFI_MINIBATCH_H
#define NFI_MINIBATCH_H
#include <nflow/objective.h>

typedef struct nfi_rows nfi_rows;

/* Checks `data` (whose arrays stay borrowed; the struct is copied) and fixes static bits once for all. A batch has
   min(batch, n) rows. NULL with a message beginning with `who`. */
nfi_rows *nfi_rows_new(const nf_data *data, size_t batch, const char *who);
/* NULL is allowed. */
void nfi_rows_free(nfi_rows *r);
/* Rows a batch: min(batch, n). */
size_t nfi_rows_batch(const nfi_rows *r);

/* Once a step, serial: selects step t's rows, numbers t b .. t b + b - 1 of the endless sequence of shuffled epochs, a
   function of (seed, step) alone. With b = n: all rows in order. */
nf_status nfi_rows_begin(nfi_rows *r, uint64_t seed, uint64_t step);
/* Rows first .. first + n - 1 of the selected batch, padded: x [dim x ld], ctx [n_ctx x ld] (NULL: not wanted). Any
   number of threads at once. */
void nfi_rows_tile(const nfi_rows *r, size_t first, size_t n, size_t ld, nf_real *x, nf_real *ctx);
/* Rows first .. first + n - 1 of the data set, padded likewise; no nfi_rows_begin is needed. Dynamic bits are those
   of (binarise_seed, row). */
void nfi_rows_consecutive(const nfi_rows *r, size_t first, size_t n, size_t ld, nf_real *x, nf_real *ctx);

#endif
