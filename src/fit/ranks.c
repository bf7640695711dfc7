/* A step that several ranks share. Rank r of R (a power of two) computes shards r S / R .. (r + 1) S / R - 1 of the
   step's S shards; they are a node of the tree of shards.h. The caller's all_reduce adds up the gradients, the sums
   of the loss, the counts and the statistics of the R nodes. If the bits are to be those of one process, all_reduce
   must add in the order of the rest of that tree.

   All ranks call all_reduce equally often. A rank that cannot make its next step, or does not want to, calls it with
   zeros and a flag instead. A rank that sees a flag ends, too. So no rank waits for one that has gone. After the last
   step there is no such call; all ranks know which step is the last. */
#include "base/memory.h"
#include "fit/objective.h"
#include <string.h>

static size_t count_shards(const nf_objective *o)
{
    const nf_shape *s = &o->model->o->total;
    const nfi_tiling t = nfi_tile_batch(o->n, s->n_saved);
    return nfi_shard_count(t.n_tiles, (s->n_params + s->n_prep) * sizeof(nf_real));
}

static nf_status check(const nf_objective *o, size_t rank, size_t n_ranks, const char *who)
{
    const size_t shards = count_shards(o);
    if (n_ranks == 0 || (n_ranks & (n_ranks - 1)) != 0 || n_ranks > shards)
        return nf_error(
            NF_EARG,
            "%s: %zu ranks, but a step of %zu samples has %zu shards: the number of ranks must be a power of "
            "two, and at most that",
            who, n_ranks, o->n, shards);
    if (rank >= n_ranks)
        return nf_error(NF_EARG, "%s: rank %zu of %zu, but they are numbered from 0", who, rank, n_ranks);
    return NF_OK;
}

void nfi_share(const nf_objective *o, size_t rank, size_t n_ranks, size_t *first, size_t *n)
{
    const nfi_tiling t = nfi_tile_batch(o->n, o->model->o->total.n_saved);
    const size_t shards = count_shards(o), each = shards / n_ranks;
    *first = nfi_tile_first(&t, nfi_shard_first_tile(&t, rank * each, shards));
    *n = nfi_tile_first(&t, nfi_shard_first_tile(&t, (rank + 1) * each, shards)) - *first;
}

nf_status nf_objective_share(const nf_objective *o, size_t rank, size_t n_ranks, size_t *first, size_t *n)
{
    if (!o || !first || !n)
        return nf_error(NF_EARG, "nf_objective_share: `%s` is NULL", !o ? "o" : !first ? "first" : "n");
    const nf_status status = check(o, rank, n_ranks, "nf_objective_share");
    if (status == NF_OK)
        nfi_share(o, rank, n_ranks, first, n);
    return status;
}

/* The spreads of the single ranks, which come after the statistics: each rank writes its own and zeros for the others,
   so that the sums have them all. */
enum { WORSTS = 3 };

static double *spread_of(const nfi_exchange *x, size_t n_state, size_t rank)
{
    return x->sums + NFI_R_STATS + n_state + WORSTS * rank;
}

static size_t count_sums(const nfi_exchange *x, size_t n_state)
{
    return NFI_R_STATS + n_state + WORSTS * x->ranks.n_ranks;
}

nf_status nfi_exchange_begin(nfi_exchange *x, const nf_objective *o, const nf_ranks *ranks, const char *who)
{
    *x = (nfi_exchange){.ended = !ranks};
    if (!ranks)
        return NF_OK;
    if (!ranks->all_reduce)
        return nf_error(NF_EARG, "%s: `ranks->all_reduce` is NULL", who);
    const nf_status status = check(o, ranks->rank, ranks->n_ranks, who);
    if (status != NF_OK)
        return status;
    const nf_shape *s = &o->model->o->total;
    x->ranks = *ranks;
    x->sums = nfi_calloc(count_sums(x, s->n_state), sizeof *x->sums);
    x->maxima = nfi_calloc(NFI_R_MAXIMA, sizeof *x->maxima);
    x->nothing = nfi_calloc(s->n_params + s->n_prep, sizeof *x->nothing);
    if (!x->sums || !x->maxima || !x->nothing) {
        nfi_exchange_end(x);
        return NF_ENOMEM;
    }
    return NF_OK;
}

void nfi_exchange_end(nfi_exchange *x)
{
    nfi_free(x->sums);
    nfi_free(x->maxima);
    nfi_free(x->nothing);
    *x = (nfi_exchange){.ended = true};
}

static nf_status all_reduce(nfi_exchange *x, const nf_objective *o, nf_real *gradient)
{
    const nf_shape *s = &o->model->o->total;
    const nf_reduction r = {.gradient = gradient,
                            .n_gradient = s->n_params + s->n_prep,
                            .sums = x->sums,
                            .n_sums = count_sums(x, s->n_state),
                            .maxima = x->maxima,
                            .n_maxima = NFI_R_MAXIMA};
    x->exchanged++;
    const nf_status status = x->ranks.all_reduce(x->ranks.user, &r);
    x->ended = x->ended || status != NF_OK || x->sums[NFI_R_FAILED] > 0 || x->sums[NFI_R_STOPPED] > 0;
    return status;
}

/* The error of another rank, if the sums show one. */
static nf_status verdict(const nfi_exchange *x)
{
    const double failed = x->sums[NFI_R_FAILED];
    if (failed == 0)
        return NF_OK;
    const nf_status why = (nf_status)x->maxima[NFI_R_STATUS];
    return nf_error(why, "nf_ranks: %.0f of %zu ranks failed: %s", failed, x->ranks.n_ranks, nf_status_text(why));
}

bool nfi_exchange_stopped(const nfi_exchange *x)
{
    return x->ranks.n_ranks && x->ended && x->sums[NFI_R_STOPPED] > 0 && x->sums[NFI_R_FAILED] == 0;
}

nf_status nfi_exchange_leave(nfi_exchange *x, const nf_objective *o, nf_status status)
{
    if (x->ended)
        return status;
    const nf_shape *s = &o->model->o->total;
    memset(x->sums, 0, count_sums(x, s->n_state) * sizeof *x->sums);
    memset(x->maxima, 0, NFI_R_MAXIMA * sizeof *x->maxima);
    memset(x->nothing, 0, (s->n_params + s->n_prep) * sizeof *x->nothing);
    x->sums[status == NF_OK ? NFI_R_STOPPED : NFI_R_FAILED] = 1;
    x->maxima[NFI_R_STATUS] = status;
    x->ended = true;
    const nf_status reduced = all_reduce(x, o, x->nothing);
    return status != NF_OK ? status : reduced != NF_OK ? reduced : verdict(x);
}

static void pack_spread(nfi_exchange *x, size_t n_state, const nf_spread *s)
{
    memset(spread_of(x, n_state, 0), 0, WORSTS * x->ranks.n_ranks * sizeof *x->sums);
    double *own = spread_of(x, n_state, x->ranks.rank);
    own[0] = s->n, own[1] = s->worst, own[2] = s->worst_sample;
    x->sums[NFI_R_SPREAD_SUM] = s->sum;
    x->sums[NFI_R_SPREAD_SQUARES] = s->squares;
}

static void unpack_spread(const nfi_exchange *x, size_t n_state, nf_spread *s)
{
    *s = (nf_spread){.n = 0};
    for (size_t rank = 0; rank < x->ranks.n_ranks; rank++) {
        const double *of = spread_of(x, n_state, rank);
        nfi_add_spreads(s, &(nf_spread){.n = of[0], .worst = of[1], .worst_sample = of[2]});
    }
    s->sum = x->sums[NFI_R_SPREAD_SUM];
    s->squares = x->sums[NFI_R_SPREAD_SQUARES];
}

static void pack(nfi_exchange *x, size_t n_state, const nf_sums *sums, const double *stats)
{
    x->sums[NFI_R_LOSS] = sums->loss;
    memcpy(x->sums + NFI_R_TERMS, sums->term, sizeof sums->term);
    x->sums[NFI_R_REJECTED] = sums->rejected;
    x->sums[NFI_R_LEFT_OUT] = sums->failed;
    x->sums[NFI_R_PENALTY] = sums->penalty;
    x->sums[NFI_R_FAILED] = x->sums[NFI_R_STOPPED] = 0;
    for (size_t k = 0; k < n_state; k++)
        x->sums[NFI_R_STATS + k] = stats[k];
    pack_spread(x, n_state, &sums->spread);
    x->maxima[NFI_R_WORST_LOG_DET] = sums->worst_log_det;
    x->maxima[NFI_R_STATUS] = NF_OK;
}

static void unpack(const nfi_exchange *x, size_t n_state, nf_sums *sums, double *stats)
{
    sums->loss = x->sums[NFI_R_LOSS];
    memcpy(sums->term, x->sums + NFI_R_TERMS, sizeof sums->term);
    sums->rejected = x->sums[NFI_R_REJECTED];
    sums->failed = x->sums[NFI_R_LEFT_OUT];
    sums->penalty = x->sums[NFI_R_PENALTY];
    sums->worst_log_det = x->maxima[NFI_R_WORST_LOG_DET];
    for (size_t k = 0; k < n_state; k++)
        stats[k] = x->sums[NFI_R_STATS + k];
    unpack_spread(x, n_state, &sums->spread);
}

nf_status nfi_exchange_step(nfi_exchange *x, nf_real *gradient, const nf_objective *o, nf_sums *sums, double *stats)
{
    const size_t n_state = o->model->o->total.n_state;
    pack(x, n_state, sums, stats);
    nf_status status = all_reduce(x, o, gradient);
    if (status == NF_OK)
        status = verdict(x);
    if (status != NF_OK)
        return status;
    unpack(x, n_state, sums, stats);
    return x->ended ? nf_error(NF_ESTOP, "nf_ranks: another rank has ended the fit") : NF_OK;
}
