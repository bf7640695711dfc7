/* What tests of whole fits share: a small density model with everything that a fit must carry along (prepared numbers,
   running statistics, minibatches), and comparisons of what comes of two fits. */
#ifndef FIT_FIXTURE_H
#define FIT_FIXTURE_H
#include "expect.h"
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>

enum { FIT_DIM = 3, FIT_ROWS = 700, FIT_NUMBERS = 64 };

/* Rows of a bent cloud; `which` is another draw. */
static inline const nf_real *fit_rows(uint64_t which)
{
    static nf_real rows[2][FIT_ROWS * FIT_DIM];
    nf_real u[FIT_DIM * 16];
    for (size_t i = 0; i < FIT_ROWS; i++) {
        const nf_noise noise = {.seed = 77 + which, .first_sample = i};
        nf_noise_normal(&noise, FIT_DIM, 1, 16, u);
        nf_real *x = rows[which] + i * FIT_DIM;
        x[0] = NF_R(1.3) * u[0] + NF_R(0.4);
        x[1] = NF_R(0.6) * u[16] + NF_R(0.35) * u[0] * u[0];
        x[2] = NF_R(0.8) * u[32] - NF_R(0.5) * u[16] - NF_R(1.1);
    }
    return rows[which];
}

/* A user's layer whose preparation for training moves its state, as a power iteration does: y = x + prep, and
   prep = c(state), state' = c'(state) in NF_TRAIN alone. One preparation too many or too few shows in every bit. */
static inline nf_status fit_ratchet_prepare(const nf_object *o, nf_mode mode, const nf_real *theta, nf_real *state,
                                            nf_real *prep)
{
    (void)o, (void)theta;
    if (mode == NF_TRAIN)
        state[0] = NF_R(3.7) * (state[0] + NF_R(0.1)) * (NF_R(0.9) - state[0]); /* chaotic in [-0.1, 0.9] */
    prep[0] = NF_R(0.05) * state[0];
    return NF_OK;
}

static inline nf_status fit_ratchet_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                          nf_real *y, double *log_det, void **saved)
{
    (void)log_det, (void)saved;
    for (size_t i = 0; i < nf_object_shape(o)->dim_in * p->ld; i++)
        y[i] = d == NF_FORWARD ? x[i] + p->prep[0] : x[i] - p->prep[0];
    return NF_OK;
}

static inline nf_status fit_ratchet_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                        const nf_real *y, void *saved, const nf_real *gy, const nf_real *g_log_det,
                                        nf_real *gx, const nf_grad *g)
{
    (void)d, (void)x, (void)y, (void)saved, (void)g_log_det, (void)g;
    memcpy(gx, gy, nf_object_shape(o)->dim_in * p->ld * sizeof *gx);
    return NF_OK;
}

static const nf_flow_type fit_ratchet = {.part = {.name = "ratchet", .prepare = fit_ratchet_prepare},
                                         .abi = sizeof(nf_flow_type),
                                         .apply = fit_ratchet_apply,
                                         .vjp = fit_ratchet_vjp};

static inline nf_model *fit_model(uint64_t seed)
{
    const nf_shape own = {.dim_in = FIT_DIM, .dim_out = FIT_DIM, .n_state = 1, .n_prep = 1};
    nf_flow *f[] = {nf_planar(FIT_DIM), nf_batch_norm(FIT_DIM, NULL), nf_lu_linear(FIT_DIM, 4), nf_affine(FIT_DIM),
                    nf_flow_new(&fit_ratchet, &own, NULL, NULL, 0)};
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_diagonal_normal(FIT_DIM), nf_chain(f, 5)),
                                   &(nf_model_options){.seed = seed});
    cr_assert_not_null(m, "%s", nf_error_message());
    cr_assert(nf_model_shape(m)->n_params <= FIT_NUMBERS && nf_model_shape(m)->n_state <= FIT_NUMBERS);
    return m;
}

/* The first `rows` rows, `batch` a step. */
static inline nf_objective *fit_objective(nf_model *m, uint64_t which, size_t rows, size_t batch)
{
    nf_data data = {.n = rows, .dim = FIT_DIM, .x = fit_rows(which)};
    nf_objective *o = nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = batch});
    cr_assert_not_null(o, "%s", nf_error_message());
    return o;
}

/* A model, what it is fitted to, and what validates it. */
typedef struct fit_problem {
    nf_model *m;
    nf_objective *o, *validation;
} fit_problem;

static inline fit_problem fit_problem_new(void)
{
    fit_problem p = {.m = fit_model(2)};
    p.o = fit_objective(p.m, 0, 60, 16);
    p.validation = fit_objective(p.m, 1, 40, 40);
    return p;
}

static inline void fit_problem_free(fit_problem *p)
{
    nf_objective_free(p->o);
    nf_objective_free(p->validation);
    nf_model_free(p->m);
}

/* A model's numbers, to be compared. */
typedef struct fit_numbers {
    nf_real theta[FIT_NUMBERS], state[FIT_NUMBERS];
} fit_numbers;

static inline fit_numbers fit_numbers_of(nf_model *m)
{
    fit_numbers n;
    memset(&n, 0, sizeof n);
    memcpy(n.theta, nf_model_theta(m), nf_model_shape(m)->n_params * sizeof(nf_real));
    memcpy(n.state, nf_model_state(m), nf_model_shape(m)->n_state * sizeof(nf_real));
    return n;
}

static inline bool fit_same_numbers(const fit_numbers *a, const fit_numbers *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* Equal bit for bit, times and memory aside. */
static inline bool fit_same_reports(const nf_fit_report *a, const nf_fit_report *b)
{
    return a->reason == b->reason && a->steps == b->steps && a->skipped == b->skipped && a->rejected == b->rejected &&
           a->failed == b->failed && a->best_failed == b->best_failed &&
           memcmp(&a->loss, &b->loss, sizeof a->loss) == 0 && memcmp(&a->best, &b->best, sizeof a->best) == 0 &&
           a->best_step == b->best_step && a->worst_log_det == b->worst_log_det &&
           memcmp(&a->worst_loss, &b->worst_loss, sizeof a->worst_loss) == 0 && a->worst_row == b->worst_row &&
           a->worst_share == b->worst_share && a->warnings == b->warnings;
}

#endif
