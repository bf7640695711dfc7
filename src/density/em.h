/* Expectation-maximisation for mixtures of normals (em.c): the fit in progress. Inside, columns are standardised: what
   is called y here is (x - mean) / scale.

   Rows go through a block at a time, cut into tiles. In a block, threads share the tiles in the first step (numbers and
   responsibilities of its rows), and the sums in the second: each is added up by one thread, tile by tile. So sums do
   not depend on the number of threads, and need the memory of one. */
#ifndef NFI_EM_H
#define NFI_EM_H
#include "data/data.h"
#include "dist/mixture.h"
#include "object/tiles.h"
#include <nflow/density.h>

enum {
    NFI_EM_WIDTH = 128,             /* rows of a tile */
    NFI_EM_PANEL = 96,              /* features of a covariance whose sums are one thread's work */
    NFI_EM_SITE = NFI_TIME_SITE + 1 /* of the noise, and the two sites after it */
};

typedef struct nfi_em {
    nf_workspace *ws; /* has all arrays, too */
    nfi_data rows;
    size_t n, dim, K;
    const double *weight; /* [n], or NULL */
    double mean_weight;
    double *mean, *scale; /* [dim] */
    /* the mixture of y */
    nf_real *logits, *m, *s, *l; /* one after the other, as in theta of nf_gaussian_mixture() */
    nfi_mixture q;               /* the same for kernels */
    /* the block: tile t has rows t NFI_EM_WIDTH .. of row; n_rows are in use */
    size_t most_rows, n_rows, ldt;
    size_t *row;  /* [most_rows] their numbers in the data */
    double *w;    /* [most_rows, whole tiles] their weights, of mean 1 over all rows; 0 for the padding */
    nf_real *y;   /* of each tile [dim x NFI_EM_WIDTH] */
    nf_real *yt;  /* transposed [NFI_EM_WIDTH x ldt] */
    nf_real *r;   /* weight times responsibility [K x NFI_EM_WIDTH] */
    double *slot; /* of each tile [2 dim]: what it adds to sums over rows alone */
    /* sums over the rows, with r: */
    double *count;  /* [K] of 1 */
    double *first;  /* [K x dim] of y - m_k */
    double *second; /* [K x dim (dim + 1) / 2] of (y - m_k) (y - m_k)^T, rows of the lower triangle */
} nfi_em;

static inline size_t nfi_em_tiles(const nfi_em *em)
{
    return (em->n_rows + NFI_EM_WIDTH - 1) / NFI_EM_WIDTH;
}

/* Runs f(em, i, ...) for i < count on the workspace's threads. */
nf_status nfi_em_each(nfi_em *em, size_t count, nfi_tile_fn *f);
/* Memory for the block and the sums. NF_ENOMEM. */
nf_status nfi_em_begin(nfi_em *em);
/* Mean and scale of the columns, the standard deviation; 1 where a column is constant. NF_ENOTFINITE. */
nf_status nfi_em_moments(nfi_em *em);
/* Reads rows of em->row into the block. */
nf_status nfi_em_read(nfi_em *em);
/* Adds the block's rows to the sums. */
nf_status nfi_em_add_block(nfi_em *em);
/* Sets all sums, over all rows, and the mean log-likelihood of y. */
nf_status nfi_em_expect(nfi_em *em, double *log_likelihood);
/* Reads a sample of the rows into the block, and leaves in r which of K clusters each row is in: the best of so many
   runs of k-means. */
nf_status nfi_em_cluster(nfi_em *em, uint64_t seed, size_t restarts);

/* ---- kernels ---- */

/* x [dim x ld] = (x - mean) / scale */
NFI_KERNEL void nfi_em_standardise(size_t dim, size_t ld, const double *mean, const double *scale, nf_real *x);
/* sum [2 dim]: of w x and then of w x^2, for each feature. */
NFI_KERNEL void nfi_em_sums(size_t dim, size_t ld, const double *w, const nf_real *x, double *sum);
/* g = r (y - m) for `dim` features, and first += its row sums. */
NFI_KERNEL void nfi_em_weigh(size_t dim, size_t ld, const nf_real *r, const nf_real *m, const nf_real *y, nf_real *g,
                             double *first);
/* d = y - m for the first `dim` columns of rows yt [n x ldt]; the other columns become 0. */
NFI_KERNEL void nfi_em_centre(size_t n, size_t dim, size_t ldt, const nf_real *m, const nf_real *yt, nf_real *d);
/* sum += a */
NFI_KERNEL void nfi_em_add(size_t n, const nf_real *a, double *sum);
/* The sum of the squares of a [n], n a multiple of 16. */
NFI_KERNEL double nfi_em_square(size_t n, const nf_real *a);
/* Where |y - centre|^2 is below best [ld], it becomes best and k becomes nearest. work [ld]. */
NFI_KERNEL void nfi_em_nearer(size_t dim, size_t ld, const nf_real *y, const double *centre, uint32_t k, double *work,
                              double *best, uint32_t *nearest);
/* Replaces the lower triangle a [dim (dim + 1) / 2], by rows, by its Cholesky factor. Pivots that rounding has taken
   below `least` times their diagonal are set to that. */
NFI_KERNEL void nfi_em_factor(size_t dim, double least, double *a);

#endif
