/*
 * Minibatches. Epoch e is a random permutation p_e of the n rows, named by (seed, e). The epochs are laid end to end,
 * p_0 p_1 p_2 ..., and with batches of b rows step t takes the places t b .. t b + b - 1 of that sequence. So each row
 * comes once in an epoch, the rest of an epoch is carried over into the next step, and a step's rows do not depend on
 * the steps before it. Here b < n (otherwise all rows are taken in order), so a step meets at most two epochs. The
 * values of a permutation are computed one by one (math/permuted.c), so nothing of length n or b is made or kept.
 *
 * Static bits are named by the row, dynamic ones by seed, step and sample: data/data.c.
 */
#include "data/minibatch.h"
#include "base/memory.h"
#include "math/noise.h"
#include "data/data.h"

struct nf_minibatches {
    nfi_data rows;
    size_t batch;
    bool shuffled;
    uint64_t seed, step;
    uint64_t place;           /* place of the step's first sample in that sample's epoch */
    nfi_permutation epoch[2]; /* that epoch's and the next one's */
};

static nf_minibatches *minibatches_new(const nf_data *data, size_t batch, bool probabilities, const char *who)
{
    nf_minibatches *b = nfi_calloc(1, sizeof *b);
    if (!b)
        return NULL;
    if (nfi_data_open(&b->rows, data, probabilities, who)) {
        nfi_free(b);
        return NULL;
    }
    b->batch = batch < data->n ? batch : data->n;
    b->shuffled = batch < data->n;
    if (nf_minibatches_begin(b, 0, 0)) {
        nf_minibatches_free(b);
        return NULL;
    }
    return b;
}

nf_minibatches *nfi_minibatches_new(const nf_data *data, size_t batch, const char *who)
{
    return minibatches_new(data, batch, false, who);
}

nf_minibatches *nfi_minibatches_of_probabilities(const nf_data *data, size_t batch, const char *who)
{
    return minibatches_new(data, batch, true, who);
}

nf_minibatches *nf_minibatches_new(const nf_data *data, size_t batch)
{
    if (batch == 0) {
        nf_error(NF_EARG, "nf_minibatches_new: batch is 0, but must be at least 1");
        return NULL;
    }
    return nfi_minibatches_new(data, batch, "nf_minibatches_new");
}

void nf_minibatches_free(nf_minibatches *b)
{
    if (!b)
        return;
    nfi_data_close(&b->rows);
    nfi_free(b);
}

size_t nf_minibatches_batch(const nf_minibatches *b)
{
    return b ? b->batch : 0;
}

nf_status nf_minibatches_begin(nf_minibatches *b, uint64_t seed, uint64_t step)
{
    if (!b)
        return nf_error(NF_EARG, "nf_minibatches_begin: b is NULL");
    b->seed = seed;
    b->step = step;
    if (!b->shuffled)
        return NF_OK;
    __extension__ typedef unsigned __int128 wide; /* cannot overflow, however large the step */
    const uint64_t n = b->rows.data.n;
    const wide place = (wide)step * b->batch;
    nf_noise noise = {.seed = seed, .step = (uint64_t)(place / n), .site = NFI_SHUFFLE_SITE};
    b->place = (uint64_t)(place % n);
    b->epoch[0] = nfi_permutation_named(&noise, n);
    noise.step++;
    b->epoch[1] = nfi_permutation_named(&noise, n);
    return NF_OK;
}

static size_t row_of(const nf_minibatches *b, size_t sample)
{
    if (!b->shuffled)
        return sample;
    const uint64_t left = b->rows.data.n - b->place; /* places left in the first epoch */
    return sample < left ? nfi_permuted(&b->epoch[0], b->place + sample) : nfi_permuted(&b->epoch[1], sample - left);
}

size_t nf_minibatches_row(const nf_minibatches *b, size_t sample)
{
    return !b ? 0 : sample < b->batch ? row_of(b, sample) : b->rows.data.n;
}

nf_status nf_minibatches_tile(const nf_minibatches *b, const nf_pass *p, size_t first, nf_real *x, nf_real *ctx)
{
    if (!b || !p || !x)
        return nf_error(NF_EARG, "nf_minibatches_tile: `%s` is NULL", !b ? "b" : !p ? "p" : "x");
    const uint32_t *column = p->noise.column;
    nf_mark mark = nf_arena_mark(p->scratch);
    size_t *row = nf_arena_alloc(p->scratch, p->n * sizeof *row);
    if (!row)
        return NF_ENOMEM;
    nf_status status = NF_OK;
    for (size_t s = 0; s < p->n && !status; s++) {
        const size_t after = column ? column[s] : s;
        if (first >= b->batch || after >= b->batch - first)
            status = nf_error(NF_EARG, "nf_minibatches_tile: sample %zu + %zu is asked for, but a batch has %zu", first,
                              after, b->batch);
        else
            row[s] = row_of(b, first + after);
    }
    const nf_noise noise = {
        .seed = b->seed, .step = b->step, .first_sample = first, .site = NFI_DYNAMIC_SITE, .column = column};
    if (!status)
        status = nfi_data_tile(&b->rows, p, row, &noise, x, ctx);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

nf_status nfi_minibatches_consecutive(const nf_minibatches *b, const nf_pass *p, size_t first, nf_real *x, nf_real *ctx)
{
    nf_mark mark = nf_arena_mark(p->scratch);
    size_t *row = nf_arena_alloc(p->scratch, p->n * sizeof *row);
    if (!row)
        return NF_ENOMEM;
    for (size_t s = 0; s < p->n; s++)
        row[s] = first + s;
    const nf_noise noise = {.seed = b->rows.data.binarise_seed, .first_sample = first, .site = NFI_DYNAMIC_SITE};
    nf_status status = nfi_data_tile(&b->rows, p, row, &noise, x, ctx);
    nf_arena_rewind(p->scratch, mark);
    return status;
}
