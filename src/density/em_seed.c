/* Where expectation-maximisation begins: clusters of a sample of the rows, by k-means (Lloyd 1982) from centres that
   are rows drawn one after the other with a chance in proportion to weight and squared distance from the centres before
   (k-means++; Arthur & Vassilvitskii 2007). As they advise, each centre is the best of a few such draws. Of several
   runs the one with the least sum of squared distances counts. */
#include "base/memory.h"
#include "density/em.h"
#include "math/noise.h"
#include <math.h>
#include <string.h>

enum { ROUNDS = 10 /* of Lloyd's algorithm */, MOST_TRIALS = 16 /* draws for a centre: 2 + log K, at most this */ };

typedef struct clusters {
    nfi_em *em;
    double *centre; /* [K x dim] */
    double *best;   /* [rows] squared distance to the nearest centre */
    double *before; /* [rows] the same without the centre that is tried */
    double *total;  /* [K] weight */
    uint32_t *nearest;
    size_t from, to; /* the centres to look at */
} clusters;

/* Up to em->most_rows rows: all in order, or a random sample of those with a weight. */
static nf_status read_sample(nfi_em *em, uint64_t seed)
{
    const nfi_permutation order = nfi_permutation_named(&(nf_noise){.seed = seed, .site = NFI_EM_SITE}, em->n);
    em->n_rows = 0;
    for (size_t i = 0; i < em->n && em->n_rows < em->most_rows; i++) {
        const size_t row = em->most_rows < em->n ? (size_t)nfi_permuted(&order, i) : i;
        if (!em->weight || em->weight[row] > 0)
            em->row[em->n_rows++] = row;
    }
    return nfi_em_read(em);
}

static nf_status look(void *user, size_t tile, size_t n, size_t ld, nfi_thread *memory)
{
    (void)n, (void)ld;
    const clusters *c = user;
    const size_t dim = c->em->dim, first = tile * NFI_EM_WIDTH;
    double *work = nf_arena_alloc(&memory->scratch, NFI_EM_WIDTH * sizeof *work);
    for (size_t k = c->from; k < c->to && work; k++)
        nfi_em_nearer(dim, NFI_EM_WIDTH, c->em->y + first * dim, c->centre + k * dim, (uint32_t)k, work,
                      c->best + first, c->nearest + first);
    return work ? NF_OK : NF_ENOMEM;
}

/* Compares the rows with centres from .. to - 1. */
static nf_status compare(clusters *c, size_t from, size_t to)
{
    const size_t tiles = nfi_em_tiles(c->em);
    c->from = from;
    c->to = to;
    return nfi_for_tiles(c->em->ws, &(nfi_tiling){.n = tiles, .n_tiles = tiles, .ld = NFI_LANES}, look, c);
}

static void forget(clusters *c)
{
    for (size_t i = 0; i < nfi_em_tiles(c->em) * NFI_EM_WIDTH; i++)
        c->best[i] = INFINITY;
}

static double cost_of(const clusters *c)
{
    double sum = 0;
    for (size_t i = 0; i < c->em->n_rows; i++)
        sum += c->em->w[i] * c->best[i];
    return sum;
}

/* Number d of row i of the block. */
static double number(const nfi_em *em, size_t i, size_t d)
{
    return (double)em->y[i / NFI_EM_WIDTH * NFI_EM_WIDTH * em->dim + d * NFI_EM_WIDTH + i % NFI_EM_WIDTH];
}

/* The row at share u of the sum of weights times squared distances; of weights alone for the first centre, and where
   every row is a centre already. */
static size_t draw_row(const clusters *c, bool by_distance, double u)
{
    double all = 0, up_to = 0;
    size_t drawn = 0;
    for (size_t i = 0; i < c->em->n_rows; i++)
        all += c->em->w[i] * (by_distance ? c->best[i] : 1);
    for (size_t i = 0; i < c->em->n_rows && up_to <= u * all; i++) {
        const double chance = c->em->w[i] * (by_distance ? c->best[i] : 1);
        up_to += chance;
        drawn = chance > 0 ? i : drawn;
    }
    return drawn;
}

/* Centre k becomes row i. */
static nf_status put_centre(clusters *c, size_t k, size_t i)
{
    for (size_t d = 0; d < c->em->dim; d++)
        c->centre[k * c->em->dim + d] = number(c->em, i, d);
    return compare(c, k, k + 1);
}

static nf_status draw_centre(clusters *c, size_t k, uint64_t seed, size_t run)
{
    const nf_noise noise = {.seed = seed, .step = run, .first_sample = k, .site = NFI_EM_SITE + 1};
    const size_t bytes = nfi_em_tiles(c->em) * NFI_EM_WIDTH * sizeof *c->best;
    const bool by_distance = k > 0 && cost_of(c) > 0;
    const size_t wanted = 2 + (size_t)log((double)c->em->K), trials = wanted < MOST_TRIALS ? wanted : MOST_TRIALS;
    double u[MOST_TRIALS], least = INFINITY;
    size_t row = 0, tried[MOST_TRIALS];
    nf_status status = NF_OK;
    nfi_noise_uniform_d(&noise, trials, 1, 1, u);
    for (size_t t = 0; t < trials; t++)
        tried[t] = draw_row(c, by_distance, u[t]);
    memcpy(c->before, c->best, bytes);
    for (size_t t = 0; t < trials && status == NF_OK; t++) {
        status = put_centre(c, k, tried[t]);
        if (status == NF_OK && cost_of(c) < least) {
            least = cost_of(c);
            row = tried[t];
        }
        memcpy(c->best, c->before, bytes);
    }
    return status ? status : put_centre(c, k, row);
}

/* Each centre becomes the mean of its rows; one without rows stays. */
static void move_centres(clusters *c)
{
    const nfi_em *em = c->em;
    memset(c->total, 0, em->K * sizeof *c->total);
    for (size_t i = 0; i < em->n_rows; i++)
        c->total[c->nearest[i]] += em->w[i];
    for (size_t k = 0; k < em->K; k++)
        for (size_t d = 0; d < em->dim && c->total[k] > 0; d++)
            c->centre[k * em->dim + d] = 0;
    for (size_t i = 0; i < em->n_rows; i++) {
        const double w = c->total[c->nearest[i]] > 0 ? em->w[i] / c->total[c->nearest[i]] : 0;
        for (size_t d = 0; d < em->dim && w > 0; d++)
            c->centre[c->nearest[i] * em->dim + d] += w * number(em, i, d);
    }
}

static nf_status run(clusters *c, uint64_t seed, size_t number_of_run)
{
    nf_status status = NF_OK;
    forget(c);
    for (size_t k = 0; k < c->em->K && status == NF_OK; k++)
        status = draw_centre(c, k, seed, number_of_run);
    for (size_t round = 0; round <= ROUNDS && status == NF_OK; round++) {
        if (round > 0)
            move_centres(c);
        forget(c);
        status = compare(c, 0, c->em->K);
    }
    return status;
}

nf_status nfi_em_cluster(nfi_em *em, uint64_t seed, size_t restarts)
{
    const size_t K = em->K, width = NFI_EM_WIDTH;
    nf_status status = read_sample(em, seed);
    const size_t rows = nfi_em_tiles(em) * width;
    nf_arena *memory = &em->ws->shared;
    const nf_mark mark = nf_arena_mark(memory);
    clusters c = {.em = em};
    c.centre = nfi_zero_doubles(memory, K * em->dim);
    c.best = nfi_zero_doubles(memory, rows);
    c.before = nfi_zero_doubles(memory, rows);
    c.total = nfi_zero_doubles(memory, K);
    c.nearest = nf_arena_alloc(memory, 2 * rows * sizeof *c.nearest);
    if (!c.centre || !c.best || !c.before || !c.total || !c.nearest)
        return NF_ENOMEM;
    uint32_t *kept = c.nearest + rows;
    double least = INFINITY;
    for (size_t i = 0; i < 2 * rows; i++)
        c.nearest[i] = 0;
    for (size_t i = 0; i < restarts && status == NF_OK; i++) {
        status = run(&c, seed, i);
        if (status == NF_OK && cost_of(&c) < least) {
            least = cost_of(&c);
            memcpy(kept, c.nearest, rows * sizeof *kept);
        }
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < K; k++)
            em->r[(i / width * K + k) * width + i % width] = kept[i] == k ? (nf_real)em->w[i] : 0;
    nf_arena_rewind(memory, mark);
    return status;
}
