/* Passes over the rows for expectation-maximisation: what each row adds to sums, a block at a time (em.h). */
#include "base/memory.h"
#include "density/em.h"
#include "math/product.h"
#include "math/rows.h"
#include "math/transpose.h"
#include <math.h>
#include <string.h>

/* A block has about 2^20 numbers, so that threads rarely wait for each other, and rows enough to begin from. */
nf_status nfi_em_begin(nfi_em *em)
{
    enum { NUMBERS = 1 << 20, LEAST = 512, MOST = 1 << 14, ROWS_A_COMPONENT = 4 };
    size_t rows = NUMBERS / (em->dim + em->K);
    rows = rows > LEAST ? rows : LEAST;
    rows = rows > ROWS_A_COMPONENT * em->K ? rows : ROWS_A_COMPONENT * em->K;
    rows = rows < MOST ? rows : em->K < MOST ? MOST : em->K;
    const size_t tiles = ((rows < em->n ? rows : em->n) + NFI_EM_WIDTH - 1) / NFI_EM_WIDTH;
    const size_t ld = tiles * NFI_EM_WIDTH, dim = em->dim, K = em->K;
    nf_arena *memory = &em->ws->shared;
    em->most_rows = ld < em->n ? ld : em->n;
    em->ldt = (dim + NFI_LANES - 1) / NFI_LANES * NFI_LANES;
    em->row = nf_arena_alloc(memory, ld * sizeof *em->row);
    em->w = nfi_zero_doubles(memory, ld);
    em->y = nf_arena_reals(memory, dim, ld);
    em->yt = nf_arena_reals(memory, em->ldt, ld);
    em->r = nf_arena_reals(memory, K, ld);
    em->slot = nfi_zero_doubles(memory, tiles * 2 * dim);
    em->mean = nfi_zero_doubles(memory, 2 * dim);
    em->logits = nf_arena_reals(memory, 1, K * (1 + dim * (dim + 3) / 2));
    em->q.log_w = nfi_zero_doubles(memory, K + 2);
    em->count = nfi_zero_doubles(memory, K);
    em->first = nfi_zero_doubles(memory, K * dim);
    em->second = nfi_zero_doubles(memory, K * (dim * (dim + 1) / 2));
    if (!em->row || !em->w || !em->y || !em->yt || !em->r || !em->slot || !em->mean || !em->logits || !em->q.log_w ||
        !em->count || !em->first || !em->second)
        return NF_ENOMEM;
    em->scale = em->mean + dim;
    for (size_t d = 0; d < dim; d++)
        em->scale[d] = 1;
    em->m = em->logits + K;
    em->s = em->m + K * dim;
    em->l = em->s + K * dim;
    em->q = (nfi_mixture){.K = K,
                          .dim = dim,
                          .ld = NFI_EM_WIDTH,
                          .logits = em->logits,
                          .m = em->m,
                          .s = em->s,
                          .l = em->l,
                          .log_w = em->q.log_w};
    return NF_OK;
}

nf_status nfi_em_each(nfi_em *em, size_t count, nfi_tile_fn *f)
{
    return nfi_for_tiles(em->ws, &(nfi_tiling){.n = count, .n_tiles = count, .ld = NFI_LANES}, f, em);
}

static size_t rows_of_tile(const nfi_em *em, size_t tile)
{
    const size_t left = em->n_rows - tile * NFI_EM_WIDTH;
    return left < NFI_EM_WIDTH ? left : NFI_EM_WIDTH;
}

/* ---- reading ---- */

static nf_status read_tile(void *user, size_t tile, size_t n, size_t ld, nfi_thread *memory)
{
    (void)n, (void)ld;
    nfi_em *em = user;
    const size_t first = tile * NFI_EM_WIDTH, *row = em->row + first;
    const nf_pass p = {.n = rows_of_tile(em, tile), .ld = NFI_EM_WIDTH, .scratch = &memory->scratch};
    const nf_noise bits = {.seed = em->rows.data.binarise_seed, .first_sample = row[0], .site = NFI_DYNAMIC_SITE};
    nf_real *y = em->y + first * em->dim;
    const nf_status status = nfi_data_tile(&em->rows, &p, row, &bits, y, NULL);
    nfi_em_standardise(em->dim, p.ld, em->mean, em->scale, y);
    nfi_transpose(em->dim, p.ld, y, p.ld, em->yt + first * em->ldt, em->ldt);
    for (size_t s = 0; s < p.ld; s++)
        em->w[first + s] = s >= p.n ? 0 : em->weight ? em->weight[row[s]] / em->mean_weight : 1;
    return status;
}

nf_status nfi_em_read(nfi_em *em)
{
    return nfi_em_each(em, nfi_em_tiles(em), read_tile);
}

/* Reads the block of rows from `first` on. */
static nf_status read_from(nfi_em *em, size_t first)
{
    em->n_rows = em->n - first < em->most_rows ? em->n - first : em->most_rows;
    for (size_t i = 0; i < em->n_rows; i++)
        em->row[i] = first + i;
    return nfi_em_read(em);
}

/* ---- mean and scale of the columns ---- */

static nf_status sum_tile(void *user, size_t tile, size_t n, size_t ld, nfi_thread *memory)
{
    (void)n, (void)ld, (void)memory;
    const nfi_em *em = user;
    const size_t first = tile * NFI_EM_WIDTH;
    nfi_em_sums(em->dim, NFI_EM_WIDTH, em->w + first, em->y + first * em->dim, em->slot + tile * 2 * em->dim);
    return NF_OK;
}

/* Until mean and scale are known, they are the first row with a weight and 1: so the sums of a constant column are
   exactly 0. */
nf_status nfi_em_moments(nfi_em *em)
{
    const size_t dim = em->dim;
    double *sum = nfi_zero_doubles(&em->ws->shared, 3 * dim), *from = sum ? sum + 2 * dim : NULL;
    if (!sum)
        return NF_ENOMEM;
    em->n_rows = 1;
    em->row[0] = 0;
    while (em->weight && !(em->weight[em->row[0]] > 0))
        em->row[0]++;
    nf_status status = nfi_em_read(em);
    for (size_t d = 0; d < dim && status == NF_OK; d++)
        em->mean[d] = from[d] = (double)em->y[d * NFI_EM_WIDTH];
    for (size_t at = 0; at < em->n && status == NF_OK; at += em->n_rows) {
        status = read_from(em, at);
        status = status ? status : nfi_em_each(em, nfi_em_tiles(em), sum_tile);
        for (size_t t = 0; t < nfi_em_tiles(em) && status == NF_OK; t++)
            for (size_t d = 0; d < 2 * dim; d++)
                sum[d] += em->slot[t * 2 * dim + d];
    }
    for (size_t d = 0; d < dim && status == NF_OK; d++) {
        const double by = sum[d] / (double)em->n, variance = sum[dim + d] / (double)em->n - by * by;
        if (!isfinite(variance))
            return nf_error(NF_ENOTFINITE,
                            "nf_fit_mixture: column %zu has no finite variance; one of its numbers may not be finite",
                            d);
        em->mean[d] = from[d] + by;
        em->scale[d] = variance > 0 ? sqrt(variance) : 1;
    }
    return status;
}

/* ---- responsibilities ---- */

static nf_status expect_tile(void *user, size_t tile, size_t n, size_t ld, nfi_thread *memory)
{
    (void)n, (void)ld;
    const nfi_em *em = user;
    const size_t width = NFI_EM_WIDTH, first = tile * width;
    const nf_real *y = em->y + first * em->dim;
    nf_real *r = em->r + first * em->K, *w = nf_arena_reals(&memory->scratch, 1, width);
    double *l = nf_arena_alloc(&memory->scratch, em->K * width * sizeof *l);
    double *log_q = nfi_zero_doubles(&memory->scratch, 3 * width), sum = 0;
    const nf_status status = w && l && log_q ? nfi_full_terms(&em->q, &memory->scratch, y, l) : NF_ENOMEM;
    if (status)
        return status;
    nfi_mixture_sum(em->q, l, log_q + width, log_q + 2 * width, log_q, r);
    for (size_t s = 0; s < width; s++) {
        w[s] = (nf_real)em->w[first + s];
        sum += w[s] > 0 ? em->w[first + s] * log_q[s] : 0;
    }
    for (size_t k = 0; k < em->K; k++)
        nfi_multiply(width, w, r + k * width);
    em->slot[tile] = sum;
    return NF_OK;
}

/* ---- sums ---- */

/* Sums of panel i % panels of component i / panels: NFI_EM_PANEL features of the covariance, and what belongs to
   them. */
static nf_status sum_panel(void *user, size_t i, size_t n, size_t ld, nfi_thread *memory)
{
    (void)n, (void)ld;
    const nfi_em *em = user;
    const size_t width = NFI_EM_WIDTH, dim = em->dim, panels = (dim + NFI_EM_PANEL - 1) / NFI_EM_PANEL;
    const size_t k = i / panels, from = i % panels * NFI_EM_PANEL;
    const size_t to = dim - from < NFI_EM_PANEL ? dim : from + NFI_EM_PANEL,
                 numbers = nfi_below(to + 1) - nfi_below(from + 1);
    size_t offset[NFI_EM_PANEL], length[NFI_EM_PANEL];
    nf_real *g = nf_arena_reals(&memory->scratch, to - from, width);
    nf_real *d = nf_arena_reals(&memory->scratch, em->ldt, width), *part = nf_arena_reals(&memory->scratch, 1, numbers);
    if (!g || !d || !part)
        return NF_ENOMEM;
    for (size_t row = from; row < to; row++) {
        offset[row - from] = nfi_below(row + 1) - nfi_below(from + 1);
        length[row - from] = row + 1;
    }
    const nfi_matrix lower = {.n_rows = to - from, .width = to, .offset = offset, .length = length};
    const nf_real *m = em->m + k * dim;
    for (size_t tile = 0; tile < nfi_em_tiles(em); tile++) {
        const nf_real *r = em->r + (tile * em->K + k) * width, *y = em->y + tile * width * dim;
        double all = 0;
        for (size_t s = 0; s < width; s++)
            all += (double)r[s];
        if (all == 0)
            continue;
        if (from == 0)
            em->count[k] += all;
        nfi_em_weigh(to - from, width, r, m + from, y + from * width, g, em->first + k * dim + from);
        nfi_em_centre(width, to, em->ldt, m, em->yt + tile * width * em->ldt, d);
        nfi_outer(&lower, width, width, g, em->ldt, d, false, part);
        nfi_em_add(numbers, part, em->second + k * nfi_below(dim + 1) + nfi_below(from + 1));
    }
    return NF_OK;
}

nf_status nfi_em_add_block(nfi_em *em)
{
    return nfi_em_each(em, em->K * ((em->dim + NFI_EM_PANEL - 1) / NFI_EM_PANEL), sum_panel);
}

static void clear_sums(nfi_em *em)
{
    memset(em->count, 0, em->K * sizeof *em->count);
    memset(em->first, 0, em->K * em->dim * sizeof *em->first);
    memset(em->second, 0, em->K * nfi_below(em->dim + 1) * sizeof *em->second);
}

nf_status nfi_em_expect(nfi_em *em, double *log_likelihood)
{
    nf_status status = NF_OK;
    double sum = 0;
    nfi_mixture_weights(em->q);
    clear_sums(em);
    for (size_t at = 0; at < em->n && status == NF_OK; at += em->n_rows) {
        status = read_from(em, at);
        status = status ? status : nfi_em_each(em, nfi_em_tiles(em), expect_tile);
        status = status ? status : nfi_em_add_block(em);
        for (size_t t = 0; t < nfi_em_tiles(em); t++)
            sum += em->slot[t];
    }
    *log_likelihood = sum / (double)em->n;
    return status;
}
