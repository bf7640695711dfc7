/* Rows of a data set as tiles. All kinds of data take the same path. The values are in an array of numbers, in an array
   of bytes, or in scratch, where a source has just written them. As they are copied to the tile, they become

     grey: v                   static:  [u(seed, row, column) < v]
     threshold: [v >= 1/2]     dynamic: [u(seed, step, sample, column) < v]

   Here u are uniforms that are functions of their names. So no array of bits is kept, and a source gives the same bits
   as an array. */
#include "data/data.h"
#include "base/kernel.h"
#include "base/memory.h"
#include "math/noise.h"
#include "base/status.h"
#include <math.h>

enum { COLUMNS = 32 }; /* columns that are copied while a row is in cache */

/* Numbers x [n x dim] must be finite, and in [0, 1] if they are probabilities. The message names the array, the row and
   the column. */
static nf_status check_numbers(size_t n, size_t dim, const nf_real *x, bool probabilities, const char *array,
                               const char *who)
{
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < dim; c++) {
            const double v = (double)x[i * dim + c];
            if (!isfinite(v))
                return nf_error(NF_EARG, "%s: data->%s is %g in row %zu, column %zu", who, array, v, i, c);
            if (probabilities && (v < 0 || v > 1))
                return nf_error(NF_EARG,
                                "%s: data->%s is %g in row %zu, column %zu, but probabilities must be in [0, 1]", who,
                                array, v, i, c);
        }
    return NF_OK;
}

static nf_status check(const nf_data *d, bool probabilities, const char *who)
{
    size_t cells = 0;
    if (!d)
        return nf_error(NF_EARG, "%s: data is NULL", who);
    if (d->n == 0 || d->dim == 0)
        return nf_error(NF_EARG, "%s: data has %zu rows and %zu columns, but needs at least 1 of each", who, d->n,
                        d->dim);
    const char *array = d->x ? "x" : d->bytes ? "bytes" : "ctx";
    if (d->source && (d->x || d->bytes || d->ctx))
        return nf_error(NF_EARG, "%s: data has a source, which gives all values, and %s", who, array);
    if (d->source && !d->source->read)
        return nf_error(NF_EARG, "%s: data->source->read is NULL", who);
    if (!d->source && !d->x == !d->bytes)
        return nf_error(NF_EARG, "%s: data needs x, bytes or a source, and has %s", who,
                        d->x ? "both x and bytes" : "neither");
    if (!d->source && (!nfi_mul(d->n, d->dim, &cells) || !nfi_mul(cells, sizeof(nf_real), &cells)))
        return nf_error(NF_EARG, "%s: data of %zu x %zu numbers do not fit in memory", who, d->n, d->dim);
    if (!d->source && !d->ctx != !d->n_ctx)
        return nf_error(NF_EARG, "%s: data->n_ctx is %zu, but data->ctx is %s", who, d->n_ctx,
                        d->ctx ? "given" : "NULL");
    if ((int)d->binarise < NF_GREY || d->binarise > NF_BINARISE_THRESHOLD)
        return nf_error(NF_EARG, "%s: data->binarise is %d, which is no way to binarise", who, (int)d->binarise);
    probabilities |= d->binarise != NF_GREY;
    nf_status status = d->x ? check_numbers(d->n, d->dim, d->x, probabilities, "x", who) : NF_OK;
    return status == NF_OK && d->ctx ? check_numbers(d->n, d->n_ctx, d->ctx, false, "ctx", who) : status;
}

nf_status nfi_data_open(nfi_data *r, const nf_data *data, bool probabilities, const char *who)
{
    nf_status status = check(data, probabilities, who);
    if (status)
        return status;
    r->data = *data;
    r->lock = NULL;
    for (int i = 0; i < 256; i++)
        r->value[i] = (nf_real)(i / 255.0);
    if (data->source) {
        r->source = *data->source;
        r->data.source = &r->source;
        if (!r->source.thread_safe) {
            if (pthread_mutex_init(&r->mutex, NULL))
                return nf_error(NF_ENOMEM, "out of memory: a mutex");
            r->lock = &r->mutex;
        }
    }
    return NF_OK;
}

void nfi_data_close(nfi_data *r)
{
    if (r->lock)
        pthread_mutex_destroy(r->lock);
}

/* ---- a source ---- */

/* Calls the source. If the source has set an error of its own, that error stands. */
static nf_status read_rows(const nfi_data *r, size_t n, const size_t *row, nf_real *x, nf_real *ctx)
{
    nfi_message kept;
    nfi_message_set_aside(&kept);
    if (r->lock)
        pthread_mutex_lock(r->lock);
    int code = r->source.read(r->source.user, n, row, x, ctx);
    if (r->lock)
        pthread_mutex_unlock(r->lock);
    if (code == 0)
        nfi_message_put_back(&kept);
    else if (nf_error_status() == NF_OK)
        nf_error(NF_EIO, "the data's source returned %d for %zu rows, the first of them row %zu", code, n, row[0]);
    return code == 0 ? NF_OK : nf_error_status();
}

/* ---- tiles ---- */

/* Where the values are: sample s of the tile is row place[s] of x or of bytes, whichever is given. If place is NULL, it
   is row s. */
typedef struct values {
    const nf_real *x;
    const unsigned char *bytes;
    size_t dim;
    const size_t *place;
} values;

/* The uniforms of the columns first .. first + COLUMNS - 1 of a row: those of even columns, then those of odd ones.
   `first` is even. */
static void static_uniforms(uint64_t seed, uint64_t row, size_t first, nf_real *u)
{
    const nf_noise noise = {.seed = seed, .site = NFI_STATIC_SITE};
    uint32_t counter[4], key[2];
    uint64_t a[COLUMNS / 2], b[COLUMNS / 2];
    nfi_noise_block(&noise, row, (uint32_t)(first / 2), counter, key);
    nfi_noise_blocks(counter, key, COLUMNS / 2, a, b);
    nfi_noise_uniforms(COLUMNS / 2, a, b, u, u + COLUMNS / 2);
}

/* tile[c * ld + s] = what column c of sample s becomes; the padding repeats the last sample. The loop takes 16 samples
   and COLUMNS columns at a time, so that whole cache lines are used on both sides. For dynamic bits, the tile holds the
   uniforms at first. */
NFI_INLINE void gather_body(const nfi_data *r, values from, bool bytes, nf_binarise how, const size_t *row, size_t n,
                            size_t ld, nf_real *tile)
{
    nf_real u[NFI_LANES][COLUMNS];
    for (size_t s0 = 0; s0 < nfi_lanes(ld); s0 += NFI_LANES) {
        size_t at[NFI_LANES], sample[NFI_LANES];
        for (size_t s = 0; s < NFI_LANES; s++) {
            sample[s] = s0 + s < n ? s0 + s : n - 1;
            at[s] = (from.place ? from.place[sample[s]] : sample[s]) * from.dim;
        }
        for (size_t c0 = 0; c0 < from.dim; c0 += COLUMNS) {
            if (how == NF_BINARISE_STATIC)
                for (size_t s = 0; s < NFI_LANES; s++)
                    static_uniforms(r->data.binarise_seed, row[sample[s]], c0, u[s]);
            for (size_t c = c0; c < from.dim && c < c0 + COLUMNS; c++)
                for (size_t s = 0; s < NFI_LANES; s++) {
                    nf_real v = bytes ? r->value[from.bytes[at[s] + c]] : from.x[at[s] + c];
                    nf_real *t = tile + c * ld + s0 + s;
                    if (how == NF_GREY)
                        *t = v;
                    else if (how == NF_BINARISE_THRESHOLD)
                        *t = (nf_real)(v >= NF_R(0.5));
                    else if (how == NF_BINARISE_STATIC)
                        *t = (nf_real)(u[s][(c & 1) * (COLUMNS / 2) + (c - c0) / 2] < v);
                    else
                        *t = (nf_real)(*t < v);
                }
        }
    }
}

static void gather(const nfi_data *r, values from, nf_binarise how, const size_t *row, size_t n, size_t ld,
                   nf_real *tile)
{
#define CASE(way)                                               \
    case way:                                                   \
        if (from.bytes)                                         \
            gather_body(r, from, true, way, row, n, ld, tile);  \
        else                                                    \
            gather_body(r, from, false, way, row, n, ld, tile); \
        break;
    switch (how) {
        CASE(NF_GREY)
        CASE(NF_BINARISE_STATIC)
        CASE(NF_BINARISE_DYNAMIC)
        CASE(NF_BINARISE_THRESHOLD)
    }
#undef CASE
}

nf_status nfi_data_tile(const nfi_data *r, const nf_pass *p, const size_t *row, const nf_noise *dynamic, nf_real *x,
                        nf_real *ctx)
{
    const nf_data *d = &r->data;
    size_t n = p->n, ld = p->ld;
    values from = {.x = d->x, .bytes = d->bytes, .dim = d->dim, .place = row};
    values beside = {.x = d->ctx, .dim = ctx ? d->n_ctx : 0, .place = row};
    nf_mark mark = nf_arena_mark(p->scratch);
    if (d->source) {
        nf_real *read = nf_arena_reals(p->scratch, n, from.dim);
        nf_real *read_ctx = beside.dim ? nf_arena_reals(p->scratch, n, beside.dim) : NULL;
        nf_status status = read && (read_ctx || !beside.dim) ? read_rows(r, n, row, read, read_ctx) : NF_ENOMEM;
        if (status) {
            nf_arena_rewind(p->scratch, mark);
            return status;
        }
        from.x = read;
        beside.x = read_ctx;
        from.place = beside.place = NULL;
    }
    if (d->binarise == NF_BINARISE_DYNAMIC)
        nf_noise_uniform(dynamic, d->dim, n, ld, x);
    gather(r, from, d->binarise, row, n, ld, x);
    if (beside.dim)
        gather(r, beside, NF_GREY, row, n, ld, ctx);
    nf_arena_rewind(p->scratch, mark);
    return NF_OK;
}
