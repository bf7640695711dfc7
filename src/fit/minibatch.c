/*
 * Minibatches. Epoch e is a Fisher-Yates permutation p_e of the n rows, named by (seed, e); the epochs are laid end to
 * end, p_0 p_1 p_2 ..., and step t takes places t b .. t b + b - 1 of that sequence. So each row comes once an epoch,
 * an epoch's remainder is carried over into the next, and a step's rows do not depend on the steps before it.
 *
 * Static and threshold binarisation is done once, into an array of bits; dynamic binarisation compares with uniforms
 * drawn anew for each step, which pass through the tile itself.
 */
#include "fit/minibatch.h"
#include "core/kernel.h"
#include "core/memory.h"
#include <string.h>

enum { SHUFFLE_SITE = 0x7ffffff0, STATIC_SITE, DYNAMIC_SITE }; /* far from the sites of trees */
enum { BLOCK = 32 };                                           /* columns gathered while a row is in cache */
#define NO_EPOCH UINT64_MAX

struct nfi_rows {
    nf_data data;
    size_t batch;
    unsigned char *bits; /* [n x dim] of 0 and 1, owned; NULL where values are used as they come */
    nf_real value[256];  /* what a byte stands for */
    size_t *row;         /* [batch] the selected rows; NULL: all in order */
    size_t *order;       /* [n] the permutation of `epoch` under `seed` */
    uint64_t seed, step, epoch;
};

static nf_status check(const nf_data *d, const char *who)
{
    size_t cells;
    if (!d)
        return nf_error(NF_EARG, "%s: data is NULL", who);
    if (d->n == 0 || d->dim == 0)
        return nf_error(NF_EARG, "%s: data has %zu rows and %zu columns, but needs at least 1 of each", who, d->n,
                        d->dim);
    if (!nfi_mul(d->n, d->dim, &cells) || !nfi_mul(cells, sizeof(nf_real), &cells))
        return nf_error(NF_EARG, "%s: data of %zu x %zu numbers do not fit in memory", who, d->n, d->dim);
    if (!d->x == !d->bytes)
        return nf_error(NF_EARG, "%s: data needs either x or bytes, and has %s", who, d->x ? "both" : "neither");
    if (!d->ctx != !d->n_ctx)
        return nf_error(NF_EARG, "%s: data->n_ctx is %zu, but data->ctx is %s", who, d->n_ctx,
                        d->ctx ? "given" : "NULL");
    if ((int)d->binarise < NF_GREY || d->binarise > NF_BINARISE_THRESHOLD)
        return nf_error(NF_EARG, "%s: data->binarise is %d, which is no way to binarise", who, (int)d->binarise);
    return NF_OK;
}

/* bits of 16 rows at a time; the name of a row's noise is the row. */
static nf_status fix_bits(nfi_rows *r)
{
    const nf_data *d = &r->data;
    const nf_real half = NF_R(0.5);
    bool fixed = d->binarise == NF_BINARISE_THRESHOLD;
    nf_real *u = nfi_calloc(fixed ? 1 : d->dim * NFI_LANES, sizeof *u);
    r->bits = nfi_calloc(d->n * d->dim, 1);
    if (!u || !r->bits) {
        nfi_free(u);
        return NF_ENOMEM;
    }
    for (size_t first = 0; first < d->n; first += NFI_LANES) {
        size_t n = d->n - first < NFI_LANES ? d->n - first : NFI_LANES;
        nf_noise noise = {.seed = d->binarise_seed, .first_sample = first, .site = STATIC_SITE};
        if (!fixed)
            nf_noise_uniform(&noise, d->dim, n, NFI_LANES, u);
        for (size_t s = 0; s < n; s++)
            for (size_t c = 0, at = (first + s) * d->dim; c < d->dim; c++, at++) {
                nf_real v = d->bytes ? r->value[d->bytes[at]] : d->x[at];
                r->bits[at] = fixed ? v >= half : u[c * NFI_LANES + s] < v;
            }
    }
    nfi_free(u);
    return NF_OK;
}

nfi_rows *nfi_rows_new(const nf_data *data, size_t batch, const char *who)
{
    if (check(data, who))
        return NULL;
    nfi_rows *r = nfi_calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->data = *data;
    r->batch = batch < data->n ? batch : data->n;
    r->epoch = NO_EPOCH;
    for (int i = 0; i < 256; i++)
        r->value[i] = (nf_real)(i / 255.0);
    bool ok = true;
    if (r->batch < data->n) {
        r->row = nfi_calloc(r->batch, sizeof *r->row);
        r->order = nfi_calloc(data->n, sizeof *r->order);
        ok = r->row && r->order;
    }
    if (ok && (data->binarise == NF_BINARISE_STATIC || data->binarise == NF_BINARISE_THRESHOLD)) {
        ok = fix_bits(r) == NF_OK;
        r->value[1] = NF_R(1); /* a bit stands for itself */
    }
    if (!ok) {
        nfi_rows_free(r);
        return NULL;
    }
    return r;
}

void nfi_rows_free(nfi_rows *r)
{
    if (!r)
        return;
    nfi_free(r->bits);
    nfi_free(r->row);
    nfi_free(r->order);
    nfi_free(r);
}

size_t nfi_rows_batch(const nfi_rows *r)
{
    return r->batch;
}

nf_status nfi_rows_begin(nfi_rows *r, uint64_t seed, uint64_t step)
{
    uint64_t n = r->data.n, b = r->batch;
    if (seed != r->seed)
        r->epoch = NO_EPOCH;
    r->seed = seed;
    r->step = step;
    if (!r->row)
        return NF_OK;
    /* step b = n (step / n) b + (step mod n) b: no overflow however large the step */
    uint64_t place = step % n * b;
    uint64_t epoch = step / n * b + place / n;
    place %= n;
    for (size_t i = 0; i < b; i++, place++) {
        if (place == n) {
            place = 0;
            epoch++;
        }
        if (epoch != r->epoch) {
            nf_noise noise = {.seed = seed, .step = epoch, .site = SHUFFLE_SITE};
            nf_noise_permutation(&noise, n, r->order);
            r->epoch = epoch;
        }
        r->row[i] = r->order[place];
    }
    return NF_OK;
}

/* tile[c * ld + s] = value of array[row(s)][c], where array is x or bytes and row(s) is rows[first + s] or, rows NULL,
   first + s; padded. 16 rows and BLOCK columns at a time, so that a cache line of either side is used whole. bits: the
   tile comes with uniforms and leaves with 1 where they are below the value. */
NFI_INLINE void gather_body(const nf_real *x, const unsigned char *bytes, const nf_real *value, size_t dim,
                            const size_t *rows, size_t first, size_t n, size_t ld, bool bits, nf_real *tile)
{
    for (size_t s0 = 0; s0 < nfi_lanes(ld); s0 += NFI_LANES) {
        size_t at[NFI_LANES];
        for (size_t s = 0; s < NFI_LANES; s++) {
            size_t i = first + (s0 + s < n ? s0 + s : n - 1);
            at[s] = (rows ? rows[i] : i) * dim;
        }
        for (size_t c0 = 0; c0 < dim; c0 += BLOCK)
            for (size_t c = c0; c < dim && c < c0 + BLOCK; c++)
                for (size_t s = 0; s < NFI_LANES; s++) {
                    nf_real v = bytes ? value[bytes[at[s] + c]] : x[at[s] + c];
                    nf_real *t = tile + c * ld + s0 + s;
                    *t = bits ? (nf_real)(*t < v) : v;
                }
    }
}

static void gather(const nfi_rows *r, const size_t *rows, uint64_t seed, uint64_t step, size_t first, size_t n,
                   size_t ld, nf_real *x, nf_real *ctx)
{
    const nf_data *d = &r->data;
    const unsigned char *bytes = r->bits ? r->bits : d->bytes;
    if (d->binarise == NF_BINARISE_DYNAMIC) {
        nf_noise noise = {.seed = seed, .step = step, .first_sample = first, .site = DYNAMIC_SITE};
        nf_noise_uniform(&noise, d->dim, n, ld, x);
        if (bytes)
            gather_body(NULL, bytes, r->value, d->dim, rows, first, n, ld, true, x);
        else
            gather_body(d->x, NULL, NULL, d->dim, rows, first, n, ld, true, x);
    } else if (bytes) {
        gather_body(NULL, bytes, r->value, d->dim, rows, first, n, ld, false, x);
    } else {
        gather_body(d->x, NULL, NULL, d->dim, rows, first, n, ld, false, x);
    }
    if (ctx && d->ctx)
        gather_body(d->ctx, NULL, NULL, d->n_ctx, rows, first, n, ld, false, ctx);
}

void nfi_rows_tile(const nfi_rows *r, size_t first, size_t n, size_t ld, nf_real *x, nf_real *ctx)
{
    gather(r, r->row, r->seed, r->step, first, n, ld, x, ctx);
}

void nfi_rows_consecutive(const nfi_rows *r, size_t first, size_t n, size_t ld, nf_real *x, nf_real *ctx)
{
    gather(r, NULL, r->data.binarise_seed, 0, first, n, ld, x, ctx);
}
