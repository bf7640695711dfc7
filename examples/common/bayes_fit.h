/* Fits of Bayesian models by nf_vi(), each judged twice: by its own verdict, and by the gate (bayes/gate.h). */
#ifndef EXAMPLES_BAYES_FIT_H
#define EXAMPLES_BAYES_FIT_H
#include "bayes_models.h"
#include "elbo_trace.h"
#include "gate.h"
#include "output.h"

typedef struct bayes_fit {
    const bayes_model *model;
    nf_target *target;
    nf_vi_result result;
    elbo_trace trace; /* of the fit */
    double cpu;       /* processor seconds of the fit, those in the model's own density included */
    double log_z;     /* the model's; NaN: not known */
    bool has_gate;    /* there are reference draws */
    reference_draws reference;
    gate gate;
} bayes_fit;

/* Fits a model by nf_vi(), whose callback is a progress bar in place of the options'. Exits 1 with one line on failure;
   after Ctrl-C the result has stopped. */
void bayes_fit_make(bayes_fit *f, const bayes_model *m, const char *folder, const nf_vi_options *options);
/* The same, but an error of nf_vi() is returned. Release it then, too. */
nf_status bayes_fit_try(bayes_fit *f, const bayes_model *m, const char *folder, const nf_vi_options *options);
void bayes_fit_free(bayes_fit *f);
/* Names of the target's outputs, to be released by free(). */
const char **bayes_fit_names(const bayes_fit *f);

/* A line of a table, and its head. */
void bayes_fit_head(void);
void bayes_fit_line(const bayes_fit *f);
/* Rungs, the verdict's reason, and each output beside the reference. */
void bayes_fit_print(const bayes_fit *f);
void bayes_fit_json(const bayes_fit *f, js_file *j);
/* Judges the draws by the reference that the fit has: sets the gate. */
void bayes_fit_judge(bayes_fit *f);
/* The place of an output; the number of outputs if there is none of this name. */
size_t bayes_fit_output(const bayes_fit *f, const char *name);
/* n draws of these outputs [n x n_columns], to be released by free(): as they are if the verdict is to trust them,
   otherwise resampled by their weights. */
double *bayes_fit_draws(const bayes_fit *f, size_t n, size_t n_columns, const size_t *output);
/* A pair plot of draws, resampled by their weights unless the verdict is to trust them as they are; over reference
   draws if there are any (overlay.h). Of these outputs, whose names are between blanks; NULL: of the first ones. */
void bayes_fit_plot(const bayes_fit *f, const char *path, const char *outputs);

/* What the gate says: a line, and members of an object. */
void bayes_gate_print(const gate *g);
void bayes_gate_json(const gate *g, js_file *j);

/* How often verdicts are wrong. */
typedef struct bayes_tally {
    size_t fits;
    size_t passed;      /* of the gate */
    size_t trusted;     /* verdict "trust" */
    size_t wrong;       /* trusted, though the gate fails */
    size_t not_trusted; /* verdict "do not trust" */
    size_t above;       /* the ELBO is above ln Z by more than 3 standard errors */
    double *cpu;        /* [fits] */
} bayes_tally;
void bayes_tally_add(bayes_tally *t, const bayes_fit *f);
/* Prints it if there was more than one fit, and releases it. */
void bayes_tally_finish(bayes_tally *t);

#endif
