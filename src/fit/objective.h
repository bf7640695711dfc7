/* What an objective consists of, and the engine that makes one step. */
#ifndef NFI_OBJECTIVE_H
#define NFI_OBJECTIVE_H
#include "object/live.h"
#include "model/model.h"
#include "object/shards.h"
#include <nflow/ranks.h>

struct nf_objective {
    const nf_objective_type *type; /* a table of this library's size */
    nf_objective_type completed;   /* `type` points here if the caller's table was smaller */
    nf_model *model;
    size_t n;
    void *self;
};

enum { NFI_BLOCK = 4096 }; /* the parameters are combined, scaled and updated in blocks, which the threads share */

/* The first of n parameters that belong to this thread. Its last one is before the first one of the next thread. */
static inline size_t nfi_shared_parameter(size_t n, size_t thread, size_t n_threads)
{
    const size_t first = nfi_team_share((n + NFI_BLOCK - 1) / NFI_BLOCK, thread, n_threads) * NFI_BLOCK;
    return first < n ? first : n;
}

/* What is given to the last phase of a step. */
typedef struct nfi_gradient {
    nf_real *g;                   /* the mean gradient [n_params] */
    const nf_step_report *report; /* of the step, complete */
    bool finite;                  /* whether the loss and the gradient's norm are finite, and no error has occurred */
} nfi_gradient;

/* Every thread of the team calls this function inside the piece of work. nfi_shared_parameter says which parameters
   belong to which thread. */
typedef void nfi_finish_fn(void *user, const nfi_gradient *gradient, size_t thread, size_t n_threads);

/* What is kept of a tile between its forward and its backward phase. */
typedef struct nfi_held {
    void *saved;
    size_t n_failed; /* number of samples left out; `columns` of the engine says which remain */
    bool kept;       /* whether the tape is kept; if not, forward must be run again */
} nfi_held;

/* What the ranks of a step add up, or of which they take the maximum: see nf_ranks. */
enum {
    NFI_R_LOSS,
    NFI_R_TERMS,
    NFI_R_REJECTED = NFI_R_TERMS + NF_MAX_TERMS,
    NFI_R_LEFT_OUT,
    NFI_R_PENALTY,
    NFI_R_SPREAD_SUM,
    NFI_R_SPREAD_SQUARES,
    NFI_R_FAILED,
    NFI_R_STOPPED,
    NFI_R_STATS
};
enum { NFI_R_WORST_LOG_DET, NFI_R_STATUS, NFI_R_MAXIMA };
typedef struct nfi_exchange {
    nf_ranks ranks;     /* n_ranks 0: there is one process, and the fields below are not used */
    double *sums;       /* [NFI_R_STATS + n_state + 3 n_ranks] */
    double *maxima;     /* [NFI_R_MAXIMA] */
    nf_real *nothing;   /* [n_params + n_prep], the zeros that a rank gives in place of a gradient when it leaves */
    uint64_t exchanged; /* number of calls of all_reduce, in a fit: in this run */
    bool ended;         /* no more exchanges: a rank has said that it ends, or all_reduce has failed, or there is one
                           process */
} nfi_exchange;

/* A step under way. The same engine is used for one step after the other. */
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
    nfi_held *held;    /* [n_tiles], only if the objective has `gather` */
    uint32_t *columns; /* [n], only with `gather`: the nf_noise.column of tiles in which samples failed */
    double *square;    /* [n_blocks], sums of squares of the mean gradient */
    size_t n_blocks;
    nfi_preparing preparing; /* the preparation under way: first prepare_vjp, later prepare */
    bool moved;              /* the step moved the parameters, so that the model must be prepared again */
    nfi_team team;
    atomic_size_t next;
    nf_mark mark; /* of ws->shared before a step takes memory there */
    nf_sums all;  /* of the whole step */
    nf_step_report report;
    double divisor;         /* the sum of gradients divided by it is the mean gradient */
    nfi_exchange *exchange; /* NULL: one process alone */
} nfi_engine;

/* The samples of a step that a rank computes: *n samples from *first on. The caller has checked rank and n_ranks. */
void nfi_share(const nf_objective *o, size_t rank, size_t n_ranks, size_t *first, size_t *n);
/* Checks `ranks` (NULL: one process) and allocates what their exchange needs. Error messages name the function
   `who`. */
nf_status nfi_exchange_begin(nfi_exchange *x, const nf_objective *o, const nf_ranks *ranks, const char *who);
void nfi_exchange_end(nfi_exchange *x);
/* Whether another rank has stopped the fit and no rank has failed. */
bool nfi_exchange_stopped(const nfi_exchange *x);
/* Tells the other ranks that this rank ends; a second call does nothing. `status` is the reason: NF_OK if this rank
   has stopped, else its error. Returns `status` if it is an error; otherwise the error of all_reduce or of another
   rank, if there is one. */
nf_status nfi_exchange_leave(nfi_exchange *x, const nf_objective *o, nf_status status);
/* Adds up a step's gradient, sums and statistics [n_state] over all ranks. One thread calls this function. Returns
   NF_ESTOP, and sets x->ended, if a rank has stopped; returns another error if a rank has failed. */
nf_status nfi_exchange_step(nfi_exchange *x, nf_real *gradient, const nf_objective *o, nf_sums *sums, double *stats);

/* Adds one spread to another, of later samples. */
void nfi_add_spreads(nf_spread *all, const nf_spread *s);
/* Writes the worst row into a report. */
void nfi_report_spread(const nf_spread *s, nf_step_report *report);

/* Fills a report with means over the accepted samples, or what the objective makes of its sums. Returns the number by
   which the sum of gradients is to be divided. */
double nfi_step_means(const nf_objective *o, const nf_step *step, const nf_sums *sums, nf_step_report *report);

/* Begins an engine for an objective; nfi_engine_end releases it. `exchange` is borrowed. If it is NULL or has no
   ranks, one process makes the steps. */
nf_status nfi_engine_begin(nfi_engine *e, nf_objective *o, nf_workspace *ws, nfi_exchange *exchange,
                           nfi_finish_fn *finish, void *user);
void nfi_engine_end(nfi_engine *e);
/* A step has three parts. nfi_step_begin is called by one thread: it calls the objective's `begin` and takes memory.
   Of `step` it reads seed, step and gradient; the samples follow from the objective and the rank. With step->gradient
   the pass is in NF_TRAIN and running statistics advance; without it the pass is in NF_EVAL. After an error the
   caller may only call nfi_engine_end. */
nf_status nfi_step_begin(nfi_engine *e, const nf_step *step);
/* Called by every thread of one piece of work (pool.h): forward, gather, backward, reduction and `finish`. If there is
   a gradient and no error, this function ends with a barrier. */
void nfi_step_work(nfi_engine *e, size_t thread, size_t n_threads);
/* Called by one thread: gives the step's status and report, and updates the running statistics. */
nf_status nfi_step_end(nfi_engine *e, nf_step_report *report);
/* Called by every thread after nfi_step_end. Prepares the model for the next step if thread 0 has set e->moved.
   Errors are left in the team. If the model has nothing to prepare, there is no barrier. */
void nfi_step_prepare(nfi_engine *e, size_t thread, size_t n_threads);
/* Does nfi_step_begin, nfi_step_work and nfi_step_end, as a piece of work of its own. */
nf_status nfi_step(nfi_engine *e, const nf_step *step, nf_step_report *report);

#endif
