/* A fit from the inside: fit.c has the loop, fitter.c its life and what the model is left with, checkpoint.c its file.
 */
#ifndef NFI_FITTER_H
#define NFI_FITTER_H
#include "fit/objective.h"
#include <nflow/fit.h>

/* The arrays that a fit goes on from. */
typedef struct nfi_fit_arrays {
    nf_real *theta, *state, *prep; /* being trained: in force between runs, and while the model holds averaged ones */
    nf_real *slot[NF_MAX_SLOTS];
    nf_real *best_theta, *best_state; /* once something is kept */
    nf_real *average;                 /* NULL: none */
} nfi_fit_arrays;

/* An array's name in checkpoints, its length, and where it is. */
typedef struct nfi_fit_array {
    const char *name;
    size_t n;
    nf_real **at;
} nfi_fit_array;

enum { NFI_FIT_ARRAYS = 6 + NF_MAX_SLOTS };

/* The numbers that a fit goes on from. The report's warnings and bytes are filled in at a run's end. */
typedef struct nfi_fit_progress {
    nf_fit_report report;
    bool kept;          /* there are best parameters */
    uint64_t moves;     /* steps that moved the parameters */
    uint64_t evaluated; /* the number of steps at the last evaluation */
    uint64_t mean_count, bad_in_a_row, not_better;
    double validation;
} nfi_fit_progress;

struct nf_fitter {
    nf_objective *o;
    nf_model *m;
    nf_workspace *ws;
    nfi_engine engine; /* of a run */
    nfi_exchange exchange;
    nf_fit_options options;    /* with defaults filled in */
    nf_optimizer_type type;    /* the optimizer's table, whole; options.optimizer is this */
    nf_optimizer_options rule; /* coefficients in force */
    nfi_fit_arrays a;
    nfi_fit_progress now;
    double start;        /* of the run, on the clock */
    uint64_t until;      /* steps that the run goes up to */
    uint64_t written;    /* the number of steps in the last checkpoint of the run */
    double rate;         /* of the present step */
    nf_step_report step; /* the last one */
    bool running;        /* the model has the parameters that are trained */
};

/* Lists the arrays; `average`: whether there is one. Returns how many. */
size_t nfi_fit_list(nfi_fit_arrays *a, const nf_shape *s, size_t n_slots, bool average,
                    nfi_fit_array list[NFI_FIT_ARRAYS]);
/* Allocates all, zeros. On failure those that there are remain, to be released. */
nf_status nfi_fit_reserve(nfi_fit_arrays *a, const nf_shape *s, size_t n_slots, bool average);
void nfi_fit_release(nfi_fit_arrays *a);
/* NF_EARG if a number is out of its range; the optimizer is not looked at. */
nf_status nfi_fit_check(const nf_fit_options *options, const char *who);

double nfi_fit_clock(void);
/* What is trained from the model's arrays to the fitter's, and back. */
void nfi_fit_set_aside(nf_fitter *f);
void nfi_fit_take_up(nf_fitter *f);
/* The model with other parameters and state, prepared for NF_EVAL; what is trained must have been set aside. */
nf_status nfi_fit_show(nf_fitter *f, const nf_real *theta, const nf_real *state);

/* Steps up to f->until, evaluations and checkpoints on the way. */
nf_status nfi_fit_loop(nf_fitter *f);
/* What the best parameters are known by: a loss (see nfi_fit_score), and how many samples of the validation it is
   without, since they failed. */
typedef struct nfi_fit_scored {
    double loss;
    uint64_t failed;
} nfi_fit_scored;
nf_status nfi_fit_score(nf_fitter *f, nfi_fit_scored *score);
/* Whether it is better than the best so far: with fewer samples that failed, else as many and a smaller loss. */
bool nfi_fit_better(const nfi_fit_scored *score, const nf_fit_report *report);
/* The optimizer's part of a step's end: nfi_finish_fn of a fitter. */
void nfi_fit_update(void *fitter, const nfi_gradient *gradient, size_t thread, size_t n_threads);

/* nf_fitter_save, for a function of that name. */
nf_status nfi_checkpoint_write(const nf_fitter *f, const char *path, const char *who);
/* The fitter, all but its model's numbers, from a file; on failure it is as it was. */
nf_status nfi_checkpoint_read(nf_fitter *f, const char *path, const char *who);

#endif
