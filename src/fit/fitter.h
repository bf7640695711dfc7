/* What a fit consists of. fit.c has its loop. fitter.c makes and frees a fit, runs it, and sets what the model is
   left with. checkpoint.c has its file. */
#ifndef NFI_FITTER_H
#define NFI_FITTER_H
#include "fit/objective.h"
#include <nflow/fit.h>

/* The arrays that the next run of a fit starts from. */
typedef struct nfi_fit_arrays {
    nf_real *theta, *state, *prep; /* what is trained, while the model holds other numbers: between runs and while
                                      averaged parameters are evaluated */
    nf_real *slot[NF_MAX_SLOTS];
    nf_real *best_theta, *best_state; /* the best so far, if progress.kept */
    nf_real *average;                 /* the moving average of theta; NULL: none */
} nfi_fit_arrays;

/* An array's name in checkpoints, its length, and where it is. */
typedef struct nfi_fit_array {
    const char *name;
    size_t n;
    nf_real **at;
} nfi_fit_array;

enum { NFI_FIT_ARRAYS = 6 + NF_MAX_SLOTS };

/* The counts and losses that the next run of a fit starts from. The report's warnings and bytes are filled in at the
   end of a run. */
typedef struct nfi_fit_progress {
    nf_fit_report report;
    bool kept;          /* best_theta and best_state hold the best parameters */
    uint64_t moves;     /* steps that moved the parameters */
    uint64_t evaluated; /* the number of steps at the last evaluation */
    uint64_t mean_count, bad_in_a_row, not_better;
    bool dominated; /* a row dominated the mean in the evaluation or step that the report's worst row is of */
    uint64_t noted; /* the number of steps then */
    nf_sums sums;   /* the running mean of the steps' sums, of which the running loss is made */
    double validation;
} nfi_fit_progress;

struct nf_fitter {
    nf_objective *o;
    nf_model *m;
    nf_workspace *ws;
    nfi_engine engine; /* of the current run */
    nfi_exchange exchange;
    nf_fit_options options;    /* with defaults filled in */
    nf_optimizer_type type;    /* the optimizer's table, completed; options.optimizer points here */
    nf_optimizer_options rule; /* the optimizer's coefficients, with defaults filled in */
    nfi_fit_arrays a;
    nfi_fit_progress now;
    double start;        /* when the run began, on the clock */
    uint64_t until;      /* the run ends when so many steps have been made */
    uint64_t written;    /* the number of steps when this run last wrote a checkpoint */
    double rate;         /* learning rate of the present step */
    nf_step_report step; /* the report of the last step */
    bool running;        /* a run is under way: the model's own arrays hold what is trained */
};

/* Fills `list` with the fit's arrays. `average`: whether the fit has an average. Returns the number of arrays. */
size_t nfi_fit_list(nfi_fit_arrays *a, const nf_shape *s, size_t n_slots, bool average,
                    nfi_fit_array list[NFI_FIT_ARRAYS]);
/* Allocates all arrays, filled with zeros. On failure the caller must release those that were allocated. */
nf_status nfi_fit_reserve(nfi_fit_arrays *a, const nf_shape *s, size_t n_slots, bool average);
void nfi_fit_release(nfi_fit_arrays *a);
/* Returns NF_EARG if a number is out of its range. Does not check the optimizer. */
nf_status nfi_fit_check(const nf_fit_options *options, const char *who);

double nfi_fit_clock(void);
/* nfi_fit_set_aside copies theta, state and prep from the model's arrays to the fitter's. nfi_fit_take_up copies them
   back. */
void nfi_fit_set_aside(nf_fitter *f);
void nfi_fit_take_up(nf_fitter *f);
/* Gives the model other parameters and state, and prepares it for NF_EVAL. The caller must have called
   nfi_fit_set_aside before. */
nf_status nfi_fit_show(nf_fitter *f, const nf_real *theta, const nf_real *state);

/* Makes steps until f->until of them are made. Evaluations and checkpoints are made where they are due. */
nf_status nfi_fit_loop(nf_fitter *f);
/* Puts the worst row of a step or an evaluation into the fit's report. */
void nfi_fit_note_worst(nfi_fit_progress *now, const nf_step_report *r);
/* Whether the report is to warn of that row: it dominated the best evaluation, or one of the last steps. */
bool nfi_fit_dominated(const nf_fit_options *o, const nfi_fit_progress *now);
/* How good some parameters are: the loss, and how many samples of the validation were left out of the loss because
   they failed. */
typedef struct nfi_fit_scored {
    double loss;
    uint64_t failed;
} nfi_fit_scored;
/* Whether `score` is better than the best so far: fewer samples failed, or as many failed and the loss is smaller. A
   loss that is infinite or NaN is never better. Any other loss is better than none. */
bool nfi_fit_better(const nfi_fit_scored *score, const nf_fit_report *report);
/* Evaluates the present parameters. *now, the fit's progress or a copy of it, gets the result and, if it is better than
   the best so far, the new best score. */
nf_status nfi_fit_evaluate(nf_fitter *f, nfi_fit_progress *now, bool *better);
/* Sets the reason to stop if too many evaluations in a row were not better. */
void nfi_fit_lose_patience(const nf_fit_options *o, nfi_fit_progress *now);
/* The optimizer's work at the end of a step: a fitter's nfi_finish_fn. */
void nfi_fit_update(void *fitter, const nfi_gradient *gradient, size_t thread, size_t n_threads);

/* Does what nf_fitter_save does. Error messages name the function `who`. */
nf_status nfi_checkpoint_write(const nf_fitter *f, const char *path, const char *who);
/* Reads the fitter from a file, but not the numbers of its model. On failure the fitter is unchanged. */
nf_status nfi_checkpoint_read(nf_fitter *f, const char *path, const char *who);

#endif
