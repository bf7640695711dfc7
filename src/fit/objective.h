/* Objectives from the inside, and the engine of one step. */
#ifndef NFI_OBJECTIVE_H
#define NFI_OBJECTIVE_H
#include "core/live.h"
#include "core/model.h"
#include "core/shards.h"
#include <nflow/objective.h>

struct nf_objective {
    const nf_objective_type *type; /* in this library's size */
    nf_objective_type completed;   /* which it is, if the caller's table was smaller */
    nf_model *model;
    size_t n;
    void *self;
};

enum { NFI_BLOCK = 4096 }; /* parameters are combined, scaled and updated in blocks, shared out among the threads */

/* The first of n parameters that is thread k's; those up to thread k + 1's are. */
static inline size_t nfi_shared_parameter(size_t n, size_t thread, size_t n_threads)
{
    const size_t first = nfi_team_share((n + NFI_BLOCK - 1) / NFI_BLOCK, thread, n_threads) * NFI_BLOCK;
    return first < n ? first : n;
}

/* What a step's last phase sees. */
typedef struct nfi_gradient {
    nf_real *g;                   /* the mean gradient [n_params] */
    const nf_step_report *report; /* complete */
    bool finite;                  /* loss and gradient */
} nfi_gradient;

/* Called by every thread of the team inside the parallel region; nfi_shared_parameter says whose is what. */
typedef void nfi_finish_fn(void *user, const nfi_gradient *gradient, size_t thread, size_t n_threads);

/* A tile between its two phases. */
typedef struct nfi_held {
    void *saved;
    size_t n_failed; /* samples left out; columns says which are in */
    bool kept;       /* false: forward must be run again */
} nfi_held;

/* What the ranks of a step add up: see nf_ranks. */
enum {
    NFI_R_LOSS,
    NFI_R_TERMS,
    NFI_R_REJECTED = NFI_R_TERMS + NF_MAX_TERMS,
    NFI_R_LEFT_OUT,
    NFI_R_FAILED,
    NFI_R_STOPPED,
    NFI_R_STATS
};
enum { NFI_R_WORST_LOG_DET, NFI_R_STATUS, NFI_R_MAXIMA };
typedef struct nfi_exchange {
    nf_ranks ranks;     /* n_ranks 0: one process alone, and nothing below */
    double *sums;       /* [NFI_R_STATS + n_state] */
    double *maxima;     /* [NFI_R_MAXIMA] */
    nf_real *nothing;   /* [n_params + n_prep], what a rank brings that has no gradient */
    uint64_t exchanged; /* steps whose sums have gone through all_reduce */
    bool ended;         /* a rank has said that it ends: no more exchanges */
} nfi_exchange;

/* One step in the making. Reused from step to step. */
typedef struct nfi_engine {
    nf_objective *o;
    nf_workspace *ws;
    nfi_finish_fn *finish; /* NULL: none */
    void *user;
    nf_step step;
    nf_noise noise;
    nfi_sum sum;
    nf_sums *sums;     /* [n_shards] */
    double *stats;     /* [n_shards x n_state] or NULL */
    nfi_held *held;    /* [n_tiles], with gather only */
    uint32_t *columns; /* [n], likewise: of a tile some of whose samples failed, its nf_noise.column */
    double *square;    /* [n_blocks], sums of squares of the mean gradient */
    size_t n_blocks;
    nfi_preparing preparing; /* the round under way: of prepare_vjp, then of prepare */
    bool moved;              /* the step moved the parameters: the model is to be prepared */
    nfi_team team;
    atomic_size_t next;
    nf_mark mark; /* of ws->shared, while a step is under way */
    nf_step_report report;
    nfi_exchange *exchange; /* NULL: one process alone */
} nfi_engine;

/* Rank r's samples of a step, of n_ranks that have been checked. */
void nfi_share(const nf_objective *o, size_t rank, size_t n_ranks, size_t *first, size_t *n);
/* Checks `ranks` (NULL: none) for `who`, and reserves what their exchange needs. */
nf_status nfi_exchange_begin(nfi_exchange *x, const nf_objective *o, const nf_ranks *ranks, const char *who);
void nfi_exchange_end(nfi_exchange *x);
/* Whether another rank has stopped, and none has failed. */
bool nfi_exchange_stopped(const nfi_exchange *x);
/* Tells the other ranks, once, that this one ends: `status` is why, NF_OK for a stop. Returns `status`. */
nf_status nfi_exchange_leave(nfi_exchange *x, const nf_objective *o, nf_status status);
/* Adds up a step's gradient, sums and statistics [n_state] over all ranks. Serial. NF_ESTOP, with x->ended, where a
   rank has stopped; another status where one has failed. */
nf_status nfi_exchange_step(nfi_exchange *x, nf_real *gradient, const nf_objective *o, nf_sums *sums, double *stats);

/* An engine for an objective; nfi_engine_end releases it. `exchange` (borrowed; NULL or one without ranks: alone). */
nf_status nfi_engine_begin(nfi_engine *e, nf_objective *o, nf_workspace *ws, nfi_exchange *exchange,
                           nfi_finish_fn *finish, void *user);
void nfi_engine_end(nfi_engine *e);
/* The three parts of a step, of which `step` gives seed, step and gradient; samples follow from the objective and the
   rank. Serial: the objective's begin, memory. With step->gradient the pass is in NF_TRAIN and running statistics
   advance, otherwise it is in NF_EVAL. After an error only nfi_engine_end may follow. */
nf_status nfi_step_begin(nfi_engine *e, const nf_step *step);
/* By every thread of one parallel region: forward, gather, backward, reduction, finish; ends with a barrier. */
void nfi_step_work(nfi_engine *e, size_t thread, size_t n_threads);
/* Serial: the step's status, report and statistics. */
nf_status nfi_step_end(nfi_engine *e, nf_step_report *report);
/* By every thread after nfi_step_end: prepares the model for the next step if e->moved, which thread 0 has set. Errors
   are the team's. Where nothing is to prepare there is no barrier. */
void nfi_step_prepare(nfi_engine *e, size_t thread, size_t n_threads);
/* Begin, work and end in a region of their own. */
nf_status nfi_step(nfi_engine *e, const nf_step *step, nf_step_report *report);

#endif
