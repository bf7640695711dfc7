/*
 * Bayesian models as targets, each in a file of its own with its formula at the top, and known densities beside them.
 *
 *     const bayes_model *m = bayes_find("eight_schools_centered");
 *     nf_target *t = bayes_target(m, getenv("NFLOW_DATA"));    // NULL: nf_error_message() says what is missing
 *
 * A model is a density of its parameters' own values, with all its constants: where all priors are proper, the integral
 * is the evidence. (Stan leaves out what truncates a prior: its log density of eight schools is less by ln 2, since
 * Cauchy+ has twice the Cauchy density.) bayes_target() adds the constraints, so that the target is over all of R^d.
 * All targets are NF_THREADSAFE.
 */
#ifndef EXAMPLES_BAYES_MODELS_H
#define EXAMPLES_BAYES_MODELS_H
#include <nflow/nflow.h>

enum {
    BAYES_BLOCKS = 4, /* parameters that a model has at most, arrays counted once */
    BAYES_DIM = 1000  /* numbers that they are at most */
};

/* A parameter, or an array of them. */
typedef struct bayes_parameter {
    const char *name;
    size_t n;                         /* entries of an array; 0: a single number */
    nf_flow *(*constraint)(size_t n); /* from R^d to the n values; NULL: all real numbers */
} bayes_parameter;

typedef struct bayes_model {
    const char *name;
    const char *posterior;                    /* in posteriordb: where the reference draws are; NULL: there are none */
    const char *about;                        /* a few words */
    bayes_parameter parameters[BAYES_BLOCKS]; /* to the first without a name */
    /* Reads the data below the folder; to be released by free(). NULL after nf_error(). No function: no data. */
    void *(*read)(const char *folder);
    /* The log density at x, the parameters' values in their order, and its gradient: g is 0 before the call. A value
       that is not finite rejects the point; nf_error() may say why. */
    double (*log_p)(const void *data, const double *x, double *g);
    /* ln of the density's integral. No function: it is not known. */
    double (*log_z)(const void *data);
    /* What is computed of the parameters, to the first without a name, and how: theta of a non-centred form. These
       outputs of the target follow the parameters. */
    bayes_parameter derived[BAYES_BLOCKS];
    void (*derive)(const double *x, double *y);
    /* Where posteriordb has y in place of a parameter: computes this parameter in x of y and the other parameters. */
    void (*solve)(const double *y, double *x);
} bayes_model;

/* All models; the last entry is NULL. */
extern const bayes_model *const bayes_models[];
/* The model with this name; NULL after nf_error(). */
const bayes_model *bayes_find(const char *name);

/* The target over R^d, whose outputs are the parameters (theta.1, ..) and what is derived. The folder has those of
   posteriordb and of other data (NFLOW_DATA); NULL will do for models without data. Release by nf_target_free(). NULL
   after nf_error(): data that are missing or wrong, no memory. */
nf_target *bayes_target(const bayes_model *m, const char *folder);
/* The density of the parameters' values alone, without constraints; otherwise like bayes_target(). */
nf_target *bayes_density(const bayes_model *m, const char *folder);
/* The constraints, as one flow from R^d to the values; NULL after nf_error(). */
nf_flow *bayes_constraints(const bayes_model *m);
/* Numbers in a list of parameters. (The target's dimension is less by one for each simplex.) */
size_t bayes_numbers(const bayes_parameter *p);
/* ln Z; NaN where it is not known, or after nf_error(). */
double bayes_log_z(const bayes_model *m, const char *folder);

/* Constraints for the tables. */
nf_flow *bayes_positive(size_t n);
nf_flow *bayes_fraction(size_t n); /* between 0 and 1 */
/* log_z of a density whose integral is 1. */
double bayes_normalised(const void *data);

#endif
