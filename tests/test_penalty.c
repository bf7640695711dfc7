/* Penalties of layers (nf_pass.penalty): a user's flow with one, inside every kind of flow and distribution, in every
   objective. In training the loss has it, with its gradient; nothing else has it. */
#include "base/memory.h"
#include "numbers.h"
#include "objective_fixture.h"
#include <nflow/ranks.h>

/* ---- a user's flow with a penalty ---- */

/* y = z e^a, with the penalty w sum_r (1 + a_r^2) z_r^2 in both directions; theta a [dim]. */
typedef struct leash {
    double w;
    bool counts; /* into `seen` */
    double lie;  /* how much too large the penalty's gradient is */
} leash;
static leash tight = {.w = 0.3, .counts = true};
static const leash none = {.w = 0};
/* The penalties of all samples that went through in training, wanted or not, in the direction that is not implicit. */
static double seen;

static nf_status leash_apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                             double *log_det, void **saved)
{
    (void)saved;
    const leash *self = nf_self(o);
    const double sign = d == NF_FORWARD ? 1 : -1;
    const size_t dim = nf_object_shape(o)->dim_in, ld = p->ld;
    const bool implicit = d == NF_INVERSE && nf_object_shape(o)->flags & NF_IMPLICIT_INVERSE;
    for (size_t r = 0; r < dim; r++)
        for (size_t s = 0; s < ld; s++) {
            const nf_real a = p->theta_stride ? p->theta[r * ld + s] : p->theta[r];
            y[r * ld + s] = x[r * ld + s] * (nf_real)exp(sign * (double)a);
            log_det[s] += sign * (double)a;
            const double z = (double)(d == NF_FORWARD ? x : y)[r * ld + s];
            const double penalty = self->w * (1 + (double)a * (double)a) * z * z;
            if (p->penalty)
                p->penalty[s] += penalty;
            if (self->counts && p->mode == NF_TRAIN && s < p->n && !implicit)
                seen += penalty;
        }
    return NF_OK;
}

static nf_status leash_vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                           void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)saved;
    const leash *self = nf_self(o);
    const nf_real w = (nf_real)(self->w * (1 + self->lie));
    const size_t dim = nf_object_shape(o)->dim_in, ld = p->ld;
    for (size_t r = 0; r < dim; r++)
        for (size_t i = r * ld; i < (r + 1) * ld; i++) {
            const size_t s = i - r * ld, k = p->theta_stride ? i : r;
            const nf_real a = p->theta[k], e = (nf_real)exp((double)a), gp = p->g_penalty ? p->g_penalty[s] : 0;
            const nf_real z = d == NF_FORWARD ? x[i] : y[i], gz = gp * 2 * w * (1 + a * a) * z;
            const nf_real ga = d == NF_FORWARD ? gy[i] * y[i] + g_log_det[s] : -(gy[i] + gz) * z - g_log_det[s];
            gx[i] = d == NF_FORWARD ? gy[i] * e + gz : (gy[i] + gz) / e;
            if (g->theta)
                g->theta[k] += ga + gp * 2 * w * a * z * z;
        }
    return NF_OK;
}

static nf_status leash_solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x,
                                const nf_real *y, void *saved, const nf_real *gx, nf_real *gy)
{
    (void)x, (void)y, (void)saved;
    if (p->penalty || p->g_penalty)
        return nf_error(NF_EARG, "J^-T has no penalty");
    for (size_t i = 0; i < nf_object_shape(o)->dim_in * p->ld; i++) {
        const double a = (double)p->theta[p->theta_stride ? i : i / p->ld];
        gy[i] = gx[i] * (nf_real)exp(d == NF_FORWARD ? -a : a);
    }
    return NF_OK;
}

static const nf_flow_type leash_type = {.abi = sizeof(nf_flow_type),
                                        .part = {.name = "leash"},
                                        .apply = leash_apply,
                                        .vjp = leash_vjp,
                                        .solve_jt = leash_solve_jt};

static nf_flow *new_leash(size_t dim, const leash *self, unsigned implicit)
{
    const nf_shape own = {.dim_in = dim, .dim_out = dim, .n_params = dim, .flags = NF_PER_SAMPLE | implicit};
    return nf_flow_new(&leash_type, &own, (void *)(uintptr_t)self, NULL, 0);
}

static nf_flow *on_leash(size_t dim)
{
    return new_leash(dim, &tight, 0);
}

/* ---- a user's net that must not be asked for penalties: y_j = tanh(x_0) c_j + b_j ---- */

static nf_status watch_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    (void)saved;
    const size_t out = nf_object_shape(o)->dim_out, ld = p->ld;
    if (p->penalty || p->g_penalty)
        return nf_error(NF_EARG, "a net has no penalty");
    for (size_t i = 0; i < out * ld; i++)
        y[i] = (nf_real)tanh((double)x[i % ld]) * p->theta[i / ld] + p->theta[out + i / ld];
    return NF_OK;
}

static nf_status watch_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                           const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    (void)y, (void)saved;
    const size_t out = nf_object_shape(o)->dim_out, ld = p->ld;
    if (p->penalty || p->g_penalty)
        return nf_error(NF_EARG, "a net has no penalty");
    if (gx)
        memset(gx, 0, nf_object_shape(o)->dim_in * ld * sizeof *gx);
    for (size_t i = 0; i < out * ld; i++) {
        const nf_real t = (nf_real)tanh((double)x[i % ld]);
        if (gx)
            gx[i % ld] += gy[i] * p->theta[i / ld] * (1 - t * t);
        if (g->theta) {
            g->theta[i / ld] += gy[i] * t;
            g->theta[out + i / ld] += gy[i];
        }
    }
    return NF_OK;
}

static const nf_net_type watch_type = {
    .abi = sizeof(nf_net_type), .part = {.name = "watch"}, .apply = watch_apply, .vjp = watch_vjp};

static nf_net *watch(size_t in, size_t out)
{
    return nf_net_new(&watch_type, &(nf_shape){.dim_in = in, .dim_out = out, .n_params = 2 * out}, NULL, NULL, 0);
}

/* ---- what is in training ---- */

/* A step of training; its gradient to g, unless that is NULL. */
static nf_step_report train(nf_objective *o, size_t threads, nf_real *g)
{
    nf_step_report r;
    nf_workspace *ws = nf_workspace_new(threads);
    nf_real *own = reals(nf_model_shape(nf_objective_model(o))->n_params);
    seen = 0;
    cr_assert_eq(nf_objective_gradient(o, ws, 41, 5, &r, g ? g : own), NF_OK, "%s", nf_error_message());
    nf_workspace_free(ws);
    free(own);
    return r;
}

/* The gradient of the loss in training is that of central differences; and the loss is the pure one and the penalty. */
static nf_step_report check_training(nf_model *m, nf_objective *o, const char *what)
{
    const size_t n = nf_model_shape(m)->n_params;
    nf_real *g = reals(n), *theta = nf_model_theta(m);
    const nf_step_report r = train(o, 1, g), pure = value(o, 41, 5);
    cr_assert_gt(r.penalty, 0.1, "%s: the penalty is %g", what, r.penalty);
    cr_assert_eq(pure.penalty, 0);
    cr_assert_float_eq(r.loss, pure.loss + r.penalty, 10 * rounding * (1 + fabs(r.loss)), "%s", what);
    for (size_t k = 0; k < NF_MAX_TERMS; k++)
        cr_assert_float_eq(r.term[k], pure.term[k], 10 * rounding * (1 + fabs(r.term[k])), "%s: term %zu", what, k);
    for (size_t i = 0; i < n; i++) {
        const nf_real was = theta[i];
        double loss[2];
        for (int side = 0; side < 2; side++) {
            theta[i] = side ? was + RADIUS : was - RADIUS;
            cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
            loss[side] = train(o, 1, NULL).loss;
        }
        theta[i] = was;
        const double central = (loss[1] - loss[0]) / ((double)(was + RADIUS) - (double)(was - RADIUS));
        cr_assert_float_eq(g[i], central, difference * (1 + fabs(central)), "%s: parameter %zu: %.9g, but %.9g", what,
                           i, (double)g[i], central);
    }
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    free(g);
    return r;
}

/* ---- trees with leashes ---- */

enum { DIM = 3, ROWS = 37 };

static nf_net *masked(size_t per_dim)
{
    static const size_t hidden[] = {5};
    return nf_masked_net(DIM, per_dim, 0, &(nf_masked_options){.hidden = hidden, .n_hidden = 1, .activation = NF_TANH});
}
static const unsigned char mask[DIM] = {0, 1, 1};

static nf_dist *pushed(nf_flow *f)
{
    return nf_pushforward(nf_diagonal_normal(DIM), f);
}
static nf_dist *tree_plain(void)
{
    return pushed(on_leash(DIM));
}
static nf_dist *tree_implicit(void)
{
    return pushed(new_leash(DIM, &tight, NF_IMPLICIT_INVERSE));
}
static nf_dist *tree_chain(void)
{
    nf_flow *f[] = {on_leash(DIM), nf_planar(DIM), new_leash(DIM, &tight, NF_IMPLICIT_INVERSE), nf_lu_linear(DIM, 3)};
    return pushed(nf_chain(f, 4));
}
static nf_dist *tree_invert(void)
{
    nf_flow *f[] = {on_leash(DIM), new_leash(DIM, &tight, NF_IMPLICIT_INVERSE)};
    return pushed(nf_invert(nf_chain(f, 2)));
}
static nf_dist *tree_blocks(void)
{
    nf_flow *f[] = {on_leash(1), new_leash(2, &tight, NF_IMPLICIT_INVERSE)};
    return pushed(nf_blocks(f, 2));
}
static nf_dist *tree_coupling(void)
{
    return pushed(nf_coupling(DIM, mask, on_leash(2), watch(1, 2)));
}
static nf_dist *tree_coupling_by_context(void)
{
    nf_flow *f[] = {nf_amortized(on_leash(2), watch(2, 2)), on_leash(2)};
    return pushed(nf_coupling_by_context(DIM, mask, nf_chain(f, 2), watch(1, 2)));
}
static nf_dist *tree_iaf(void)
{
    return pushed(nf_autoregressive(on_leash(1), masked(1), NULL, NF_FORWARD));
}
static nf_dist *tree_maf(void)
{
    return pushed(nf_autoregressive(on_leash(1), masked(1), (const size_t[]){2, 0, 1}, NF_INVERSE));
}
static nf_dist *tree_autoregressive_by_context(void)
{
    return pushed(nf_autoregressive_by_context(nf_amortized_by_context(on_leash(1)), masked(1), NULL, NF_FORWARD));
}
static nf_dist *tree_base(void)
{
    return nf_pushforward(tree_plain(), nf_affine(DIM));
}
static nf_dist *tree_amortized(void)
{
    return pushed(nf_amortized(on_leash(DIM), watch(2, DIM)));
}
static nf_dist *tree_on_context(void)
{
    return pushed(nf_context_net(nf_amortized_by_context(on_leash(DIM)), watch(2, DIM)));
}
static nf_dist *tree_amortized_dist(void)
{
    return nf_amortized_dist(nf_pushforward(nf_mixture(DIM, 1), on_leash(DIM)), watch(2, 1 + 3 * DIM));
}

static nf_dist *tree_joint(void)
{
    nf_dist *first = nf_pushforward(nf_diagonal_normal(1), on_leash(1));
    return nf_joint(first, nf_pushforward(nf_diagonal_normal(2), nf_amortized(on_leash(2), watch(1, 2))));
}

static const struct {
    const char *name;
    nf_dist *(*build)(void);
    size_t n_ctx;
} trees[] = {{"plain", tree_plain, 0},
             {"implicit", tree_implicit, 0},
             {"chain", tree_chain, 0},
             {"invert", tree_invert, 0},
             {"blocks", tree_blocks, 0},
             {"coupling", tree_coupling, 0},
             {"coupling by context", tree_coupling_by_context, 0},
             {"IAF", tree_iaf, 0},
             {"MAF", tree_maf, 0},
             {"autoregressive by context", tree_autoregressive_by_context, 0},
             {"base", tree_base, 0},
             {"joint", tree_joint, 0},
             {"amortized", tree_amortized, 2},
             {"on context", tree_on_context, 2},
             {"amortized distribution", tree_amortized_dist, 2}};
enum { TREES = sizeof trees / sizeof *trees };

static nf_model *model_of(nf_dist *d)
{
    return stir(nf_model_of_dist(d, &(nf_model_options){.seed = 3}), 0.31);
}

Test(penalty, maximum_likelihood)
{
    nf_real *x = normals(1, ROWS * DIM, 1.2), *ctx = normals(2, ROWS * 2, 1);
    double weight[ROWS];
    for (size_t i = 0; i < ROWS; i++)
        weight[i] = 0.3 + (double)(i % 4);
    for (size_t k = 0; k < TREES; k++) {
        nf_model *m = model_of(trees[k].build());
        const nf_data data = {
            .n = ROWS, .dim = DIM, .x = x, .n_ctx = trees[k].n_ctx, .ctx = trees[k].n_ctx ? ctx : NULL};
        nf_objective *o = nf_maximum_likelihood(m, &data, &(nf_likelihood_options){.batch = ROWS});
        cr_assert_not_null(o, "%s", nf_error_message());
        const nf_step_report r = check_training(m, o, trees[k].name);
        train(o, 1, NULL);
        cr_assert_float_eq(r.penalty, seen / ROWS, 10 * rounding * (1 + r.penalty), "%s: %g, not %g", trees[k].name,
                           r.penalty, seen / ROWS);
        nf_objective_free(o);
        nf_data weighted = data;
        weighted.weight = weight;
        o = nf_maximum_likelihood(m, &weighted, &(nf_likelihood_options){.batch = ROWS});
        cr_assert_not_null(o, "%s", nf_error_message());
        if (k < 3)
            check_training(m, o, trees[k].name);
        nf_objective_free(o);
        nf_model_free(m);
    }
    free(x), free(ctx);
}

/* By hand, rows weighted; and the spread is that of whole losses. */
Test(penalty, of_a_leash)
{
    const nf_real a[DIM] = {NF_R(0.4), NF_R(-0.7), NF_R(0.2)};
    nf_real *x = normals(1, ROWS * DIM, 1.2);
    double weight[ROWS], sum = 0, weights = 0, worst = 0;
    for (size_t i = 0; i < ROWS; i++) {
        double loss = 1.5 * log(2 * acos(-1)), penalty = 0;
        weight[i] = 0.3 + (double)(i % 4);
        for (size_t r = 0; r < DIM; r++) {
            const double b = (double)a[r], z = (double)x[i * DIM + r] * exp(-b);
            penalty += 0.3 * (1 + b * b) * z * z;
            loss += 0.5 * z * z + b;
        }
        sum += weight[i] * penalty;
        weights += weight[i];
        worst = fmax(worst, loss + penalty);
    }
    for (int implicit = 0; implicit < 2; implicit++) {
        nf_model *m = nf_model_of_dist(
            nf_pushforward(nf_normal(DIM), new_leash(DIM, &tight, implicit ? NF_IMPLICIT_INVERSE : 0)), NULL);
        cr_assert_not_null(m, "%s", nf_error_message());
        memcpy(nf_model_theta(m), a, sizeof a);
        nf_objective *o = nf_maximum_likelihood(m, &(nf_data){.n = ROWS, .dim = DIM, .x = x, .weight = weight},
                                                &(nf_likelihood_options){.batch = ROWS});
        const nf_step_report r = train(o, 1, NULL);
        cr_assert_float_eq(r.penalty, sum / weights, 10 * rounding * (1 + r.penalty), "%g, not %g", r.penalty,
                           sum / weights);
        cr_assert_float_eq(r.worst_loss, worst, 100 * rounding * worst);
        nf_objective_free(o);
        nf_model_free(m);
    }
    free(x);
}

/* Of each pixel, which is a sample of the flow inside. */
Test(penalty, pixelwise)
{
    nf_real *x = normals(1, ROWS * DIM, 1.2);
    static const leash uncounted = {.w = 0.3};
    nf_step_report r[2];
    for (int k = 0; k < 2; k++) {
        const size_t dim = k ? 1 : DIM;
        nf_flow *f[] = {new_leash(dim, &uncounted, 0), new_leash(dim, &uncounted, NF_IMPLICIT_INVERSE)};
        nf_flow *both = nf_chain(f, 2);
        nf_model *m = model_of(nf_pushforward(nf_normal(DIM), k ? nf_pixelwise(both, DIM) : both));
        for (size_t i = 0; i < 2 * dim; i++)
            nf_model_theta(m)[i] = i < dim ? NF_R(0.4) : NF_R(-0.3);
        nf_objective *o = nf_maximum_likelihood(m, &(nf_data){.n = ROWS, .dim = DIM, .x = x},
                                                &(nf_likelihood_options){.batch = ROWS});
        r[k] = check_training(m, o, "pixelwise");
        nf_objective_free(o);
        nf_model_free(m);
    }
    near(r[1].penalty, r[0].penalty, 10 * rounding, "penalty", 0);
    free(x);
}

/* Flows that the way back runs again have added theirs before. */
Test(penalty, recomputed)
{
    static const leash uncounted = {.w = 0.3};
    nf_real *x = normals(1, DIM * 48, 1), *gy = normals(2, DIM * 48, 1), *one = reals(48);
    double penalty[2][48];
    nf_real gx[2][DIM * 48], g[2][64];
    for (size_t s = 0; s < 48; s++)
        one[s] = 1;
    for (int k = 0; k < 2; k++) {
        nf_flow *f[] = {new_leash(DIM, &uncounted, 0), nf_planar(DIM), new_leash(DIM, &uncounted, NF_IMPLICIT_INVERSE)};
        nf_model *m = stir(nf_model_of_flow(k ? nf_recomputed_chain(f, 3) : nf_chain(f, 3), NULL), 0.31);
        for (int d = 0; d < 2; d++) {
            nf_arena tape = {.n_chunks = 0}, scratch = {.n_chunks = 0};
            double log_det[48] = {0}, before[48];
            nf_real y[DIM * 48];
            nf_pass p = {.n = 48, .ld = 48, .theta = nf_model_theta(m), .tape = &tape, .scratch = &scratch};
            void *saved = NULL;
            memset(penalty[k], 0, sizeof penalty[k]);
            memset(g[k], 0, sizeof g[k]);
            p.penalty = penalty[k];
            p.g_penalty = one;
            cr_assert_eq(nf_flow_apply(nf_model_object(m), (nf_direction)d, &p, x, y, log_det, &saved), NF_OK);
            memcpy(before, penalty[k], sizeof before);
            cr_assert_eq(nf_flow_vjp(nf_model_object(m), (nf_direction)d, &p, x, y, saved, gy, one, gx[k],
                                     &(nf_grad){.theta = g[k]}),
                         NF_OK);
            cr_assert_eq(memcmp(before, penalty[k], sizeof before), 0);
            nfi_arena_clear(&tape);
            nfi_arena_clear(&scratch);
        }
        nf_model_free(m);
    }
    for (size_t s = 0; s < 48; s++)
        near(penalty[1][s], penalty[0][s], 100 * rounding, "penalty", s);
    for (size_t i = 0; i < DIM * 48; i++)
        near((double)gx[1][i], (double)gx[0][i], 1000 * rounding, "gradient in x", i);
    for (size_t i = 0; i < 64; i++)
        near((double)g[1][i], (double)g[0][i], 10000 * rounding, "gradient", i);
    free(x), free(gy), free(one);
}

/* Both the density and the noise have one. A draw is scored, and has the score's penalty alone. */
Test(penalty, dequantised)
{
    nf_real x[ROWS * DIM];
    const double zeros[DIM] = {0}, ones[DIM] = {1, 1, 1};
    for (size_t i = 0; i < ROWS * DIM; i++)
        x[i] = (nf_real)(i * 7 % 5);
    nf_flow *f[] = {on_leash(DIM), nf_bounds(DIM, zeros, ones)};
    nf_model *m = model_of(nf_dequantised(tree_plain(), nf_pushforward(nf_normal(DIM), nf_chain(f, 2)),
                                          &(nf_dequantised_options){.levels = 5, .step = 1}));
    nf_objective *o =
        nf_maximum_likelihood(m, &(nf_data){.n = ROWS, .dim = DIM, .x = x}, &(nf_likelihood_options){.batch = ROWS});
    const nf_step_report r = check_training(m, o, "dequantised");
    train(o, 1, NULL);
    near(r.penalty, seen / ROWS, 10 * rounding, "penalty", 0);
    nf_arena scratch = {.n_chunks = 0};
    double log_q[2][16] = {{0}}, penalty[2][16] = {{0}};
    nf_pass p = {.n = 16, .ld = 16, .theta = nf_model_theta(m), .noise = {.seed = 8}, .scratch = &scratch};
    nf_real drawn[DIM * 16];
    void *saved = NULL;
    p.penalty = penalty[0];
    cr_assert_eq(nf_dist_sample(nf_model_object(m), &p, drawn, log_q[0], &saved), NF_OK);
    p.penalty = penalty[1];
    cr_assert_eq(nf_dist_score(nf_model_object(m), &p, drawn, log_q[1], &saved), NF_OK);
    for (size_t s = 0; s < 16; s++)
        cr_assert(log_q[0][s] == log_q[1][s] && penalty[0][s] == penalty[1][s] && penalty[0][s] > 0);
    nfi_arena_clear(&scratch);
    nf_objective_free(o);
    nf_model_free(m);
}

/* Equal bit for bit for any number of threads, and by way of ranks. */
static nf_status reduce_alone(void *user, const nf_reduction *r)
{
    (void)user, (void)r;
    return NF_OK;
}

Test(penalty, threads_and_ranks)
{
    enum { N = 700 };
    nf_real *x = normals(1, N * DIM, 1.2);
    static const leash uncounted = {.w = 0.3};
    nf_flow *f[] = {new_leash(DIM, &uncounted, 0), nf_planar(DIM)};
    nf_model *m = model_of(pushed(nf_chain(f, 2)));
    nf_objective *o =
        nf_maximum_likelihood(m, &(nf_data){.n = N, .dim = DIM, .x = x}, &(nf_likelihood_options){.batch = N});
    nf_real g[3][64] = {{0}};
    cr_assert_leq(nf_model_shape(m)->n_params, 64);
    const nf_step_report one = train(o, 1, g[0]), three = train(o, 3, g[1]);
    nf_step_report ranks;
    cr_assert_eq(
        nf_objective_rank_gradient(o, NULL, &(nf_ranks){.n_ranks = 1, .all_reduce = reduce_alone}, 41, 5, &ranks, g[2]),
        NF_OK, "%s", nf_error_message());
    cr_assert(one.penalty > 0.1 && one.penalty == three.penalty && one.penalty == ranks.penalty);
    cr_assert(one.loss == three.loss && one.loss == ranks.loss);
    cr_assert_eq(memcmp(g[0], g[1], sizeof g[0]), 0);
    cr_assert_eq(memcmp(g[0], g[2], sizeof g[0]), 0);
    nf_objective_free(o);
    nf_model_free(m);
    free(x);
}

/* ---- ELBOs ---- */

/* log p = -sum (x - 0.4)^2 / (2 0.49), not normalised; draws with x_0 > *limit are rejected. */
static int bump(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    const double *limit = user;
    for (size_t i = 0; i < n; i++) {
        log_p[i] = 0;
        for (size_t r = 0; r < d; r++) {
            const double u = x[i * d + r] - 0.4;
            log_p[i] -= u * u / 0.98;
            if (grad)
                grad[i * d + r] = -u / 0.49;
        }
        rejected[i] = x[i * d] > *limit;
    }
    return 0;
}

Test(penalty, elbo)
{
    double limit = 1e9;
    for (int serial = 0; serial < 2; serial++) {
        nf_target *t = nf_target_callback(DIM, bump, &limit, serial ? NF_SERIAL : NF_THREADSAFE);
        const nf_elbo_options options = {.draws = ROWS, .kl = {.kind = NF_CONSTANT, .from = 0.7}};
        for (size_t k = 0; k < TREES; k++) {
            if (trees[k].n_ctx)
                continue;
            nf_model *m = model_of(trees[k].build());
            nf_objective *o = nf_elbo(m, t, &options);
            cr_assert_not_null(o, "%s", nf_error_message());
            const nf_step_report r = check_training(m, o, trees[k].name);
            train(o, 1, NULL);
            cr_assert_float_eq(r.penalty, seen / ROWS, 10 * rounding * (1 + r.penalty), "%s", trees[k].name);
            nf_objective_free(o);
            o = nf_elbo(m, t, &(nf_elbo_options){.draws = 5 * ROWS}); /* several tiles */
            const nf_step_report more = train(o, 1, NULL);
            cr_assert_float_eq(more.penalty, seen / (5 * ROWS), 10 * rounding * (1 + r.penalty), "%s", trees[k].name);
            cr_assert_float_eq(more.loss, more.term[0] - more.term[1] + more.penalty,
                               100 * rounding * (1 + fabs(more.loss)));
            nf_objective_free(o);
            nf_model_free(m);
        }
        nf_target_free(t);
    }
}

/* Draws of a mixture have weights, which the penalties share. */
Test(penalty, elbo_of_a_mixture)
{
    double limit = 1e9;
    nf_target *t = nf_target_callback(2, bump, &limit, NF_THREADSAFE);
    nf_model *m = model_of(nf_pushforward(nf_mixture(2, 3), on_leash(2)));
    nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = 36});
    check_training(m, o, "mixture");
    nf_objective_free(o);
    nf_model_free(m);
    nf_target_free(t);
}

/* Of rejected draws nothing counts. */
Test(penalty, elbo_with_rejected_draws)
{
    double limit = 0.9;
    nf_target *t = nf_target_callback(DIM, bump, &limit, NF_THREADSAFE);
    for (int by_score = 0; by_score < 2; by_score++) {
        nf_model *m = model_of(tree_plain());
        nf_objective *o = nf_elbo(
            m, t, &(nf_elbo_options){.draws = 300, .gradient = by_score ? NF_GRADIENT_SCORE : NF_GRADIENT_PATH});
        const nf_step_report r = train(o, 1, NULL), pure = value(o, 41, 5);
        cr_assert(r.rejected > 10 && r.rejected < 290);
        cr_assert(r.penalty > 0.1);
        cr_assert_float_eq(r.loss, r.term[0] - r.term[2] - r.term[1] + r.penalty, 100 * rounding * (1 + fabs(r.loss)));
        cr_assert_float_eq(r.loss, pure.loss + r.penalty, 100 * rounding * (1 + fabs(r.loss)));
        nf_objective_free(o);
        nf_model_free(m);
    }
    nf_target_free(t);
}

/* The mean of `steps` gradients and its standard error, number by number. */
static void mean_gradient(nf_objective *o, size_t steps, size_t n, double *mean, double *error)
{
    nf_real *g = reals(n);
    double *square = calloc(n, sizeof *square);
    memset(mean, 0, n * sizeof *mean);
    for (size_t k = 0; k < steps; k++) {
        nf_step_report r;
        cr_assert_eq(nf_objective_gradient(o, NULL, 17, k, &r, g), NF_OK, "%s", nf_error_message());
        for (size_t i = 0; i < n; i++) {
            mean[i] += (double)g[i] / (double)steps;
            square[i] += (double)g[i] * (double)g[i] / (double)steps;
        }
    }
    for (size_t i = 0; i < n; i++)
        error[i] = sqrt((square[i] - mean[i] * mean[i]) / (double)(steps - 1));
    free(g), free(square);
}

/* The gradient by the score, which has no path through the draws, has the same mean as the other. */
Test(penalty, elbo_by_score)
{
    enum { STEPS = NFLOW_THIN ? 300 : 1500 };
    double limit = 1e9, mean[2][8], error[2][8];
    nf_target *t = nf_target_callback(1, bump, &limit, NF_THREADSAFE);
    for (int implicit = 0; implicit < 2; implicit++) {
        tight.w = 2; /* so that the penalty is most of the gradient */
        nf_model *m =
            model_of(nf_pushforward(nf_diagonal_normal(1), new_leash(1, &tight, implicit ? NF_IMPLICIT_INVERSE : 0)));
        const size_t n = nf_model_shape(m)->n_params;
        for (int by_score = 0; by_score < 2; by_score++) {
            nf_objective *o = nf_elbo(
                m, t, &(nf_elbo_options){.draws = 64, .gradient = by_score ? NF_GRADIENT_SCORE : NF_GRADIENT_PATH});
            mean_gradient(o, STEPS, n, mean[by_score], error[by_score]);
            nf_objective_free(o);
        }
        for (size_t i = 0; i < n; i++) {
            const double allowed = 4.5 * hypot(error[0][i], error[1][i]);
            cr_assert(allowed < (NFLOW_THIN ? 0.6 : 0.25) * (1 + fabs(mean[0][i])), "%g", allowed);
            cr_assert_float_eq(mean[0][i], mean[1][i], allowed, "parameter %zu: %g by paths, %g by scores (+- %g)", i,
                               mean[0][i], mean[1][i], allowed);
        }
        nf_model_free(m);
    }
    nf_target_free(t);
}

/* ---- a VAE ---- */

enum { Z = 2, HEAD = 3 * Z };

Test(penalty, vae)
{
    enum { X = 4 };
    nf_real *x = normals(6, ROWS * X, 1);
    for (int amortized = 0; amortized < 2; amortized++) {
        nf_flow *f[] = {amortized ? nf_amortized_by_context(on_leash(Z)) : on_leash(Z), nf_affine(Z)};
        nf_dist *posterior = nf_posterior(Z, nf_chain(f, 2));
        const size_t n_ctx = amortized ? Z : 0;
        nf_model *m = nf_model_of_vae(nf_vae_new(watch(X, 2 * Z + n_ctx), posterior, watch(Z, 2 * X), NF_GAUSSIAN),
                                      &(nf_model_options){.seed = 3});
        stir(m, 0.31);
        nf_objective *o = nf_vae_elbo(m, &(nf_data){.n = ROWS, .dim = X, .x = x},
                                      &(nf_vae_options){.batch = ROWS, .kl = {.kind = NF_CONSTANT, .from = 0.6}});
        cr_assert_not_null(o, "%s", nf_error_message());
        const nf_step_report r = check_training(m, o, "VAE");
        train(o, 1, NULL);
        cr_assert_float_eq(r.penalty, seen / ROWS, 10 * rounding * (1 + r.penalty));
        nf_objective_free(o);
        nf_model_free(m);
    }
    free(x);
}

/* ---- the plug-in ---- */

/* One array [ROWS x HEAD] has means, log-scales and context. Row 7 has no result if it is NaN. */
typedef struct plugged {
    nf_model *m;
    nf_workspace *ws;
    nf_real head[ROWS * HEAD], gz[ROWS * Z], z[ROWS * Z];
    double g_log_q[ROWS], g_penalty[ROWS], log_q[ROWS], penalty[ROWS];
} plugged;

static nf_status forward(plugged *f, nf_mode mode, bool with_penalty)
{
    const nf_posterior_rows rows = {.n = ROWS,
                                    .mean = f->head,
                                    .log_scale = f->head + Z,
                                    .ctx = f->head + 2 * Z,
                                    .mean_stride = HEAD,
                                    .log_scale_stride = HEAD,
                                    .ctx_stride = HEAD,
                                    .z = f->z,
                                    .log_q = f->log_q,
                                    .penalty = with_penalty ? f->penalty : NULL};
    seen = 0;
    return nf_posterior_forward(f->m, f->ws, mode, &(nf_noise){.seed = 6}, &rows);
}

static nf_status backward(plugged *f, nf_real *g_head, nf_real *g)
{
    return nf_posterior_backward(f->m, f->ws,
                                 &(nf_posterior_gradients){.n = ROWS,
                                                           .gz = f->gz,
                                                           .g_log_q = f->g_log_q,
                                                           .g_penalty = f->g_penalty,
                                                           .g_mean = g_head,
                                                           .g_log_scale = g_head + Z,
                                                           .g_ctx = g_head + 2 * Z,
                                                           .g_mean_stride = HEAD,
                                                           .g_log_scale_stride = HEAD,
                                                           .g_ctx_stride = HEAD,
                                                           .g = g});
}

/* <gz, z> + <g_log_q, log_q> + <g_penalty, penalty> over the rows that have a result. */
static double together(const plugged *f)
{
    double sum = 0;
    for (size_t i = 0; i < ROWS; i++) {
        if (isnan(f->log_q[i]))
            continue;
        sum += f->g_log_q[i] * f->log_q[i] + f->g_penalty[i] * f->penalty[i];
        for (size_t r = 0; r < Z; r++)
            sum += (double)f->gz[i * Z + r] * (double)f->z[i * Z + r];
    }
    return sum;
}

Test(penalty, plug_in)
{
    plugged *f = calloc(1, sizeof *f);
    double penalty[ROWS];
    nf_flow *parts[] = {nf_amortized_by_context(on_leash(Z)), nf_affine(Z), on_leash(Z)};
    f->m = model_of(nf_posterior(Z, nf_chain(parts, 3)));
    f->ws = nf_workspace_new(1);
    const size_t n = nf_model_shape(f->m)->n_params;
    nf_real *g_head = reals(ROWS * HEAD), *g = reals(n), *v = normals(7, ROWS * HEAD + n, 1),
            *at = reals(ROWS * HEAD + n);
    draw(1, ROWS * HEAD, 0.4, f->head), draw(2, ROWS * Z, 1, f->gz);
    for (size_t i = 0; i < ROWS; i++)
        f->g_log_q[i] = cos((double)i), f->g_penalty[i] = 0.3 + sin(2.0 * (double)i);
    for (int failing = 0; failing < 2; failing++) {
        if (failing)
            f->head[7 * HEAD] = NAN;
        memcpy(at, f->head, sizeof f->head), memcpy(at + ROWS * HEAD, nf_model_theta(f->m), n * sizeof *at);
        cr_assert_eq(forward(f, NF_TRAIN, true), NF_OK, "%s", nf_error_message());
        double sum = 0;
        for (size_t i = 0; i < ROWS; i++) { /* the others are as they were */
            cr_assert_eq(isnan(f->penalty[i]), failing && i == 7, "row %zu", i);
            cr_assert(!failing || i == 7 || f->penalty[i] == penalty[i], "row %zu", i);
            penalty[i] = f->penalty[i];
            sum += isnan(f->penalty[i]) ? 0 : f->penalty[i];
        }
        cr_assert(failing ? sum > 0.1 : fabs(sum - seen) < 10 * rounding * seen);
        memset(g, 0, n * sizeof *g);
        cr_assert_eq(backward(f, g_head, g), NF_OK, "%s", nf_error_message());
        for (int part = 0; part < 2; part++) { /* along v: what the encoder gives, the flow's own parameters */
            double moved[2], slope = part ? dot(n, g, v + ROWS * HEAD) : dot(ROWS * HEAD, g_head, v);
            for (int side = 0; side < 2; side++) {
                const nf_real h = side ? RADIUS : -RADIUS;
                for (size_t i = 0; i < ROWS * HEAD; i++)
                    f->head[i] = at[i] + (part ? 0 : h * v[i]);
                for (size_t i = 0; i < n; i++)
                    nf_model_theta(f->m)[i] = at[ROWS * HEAD + i] + (part ? h * v[ROWS * HEAD + i] : 0);
                cr_assert_eq(forward(f, NF_TRAIN, true), NF_OK);
                moved[side] = together(f);
            }
            near(slope, (moved[1] - moved[0]) / (2 * (double)RADIUS), 3 * difference, "slope", (size_t)part);
        }
        memcpy(f->head, at, sizeof f->head), memcpy(nf_model_theta(f->m), at + ROWS * HEAD, n * sizeof *at);
    }
    cr_assert_eq(forward(f, NF_TRAIN, false), NF_OK);
    expect(backward(f, g_head, g), NF_EARG, "nf_posterior_backward: `g_penalty`");
    cr_assert_eq(forward(f, NF_EVAL, true), NF_OK);
    for (size_t i = 0; i < ROWS; i++)
        cr_assert(i == 7 ? isnan(f->penalty[i]) : f->penalty[i] == 0, "row %zu: %g", i, f->penalty[i]);
    nf_workspace_free(f->ws);
    nf_model_free(f->m);
    free(f), free(g_head), free(g), free(v), free(at);
}

/* ---- what is not trained, and what fails ---- */

/* A layer without a penalty trains as the same with a weight of 0; scores, values and draws never see one. */
Test(penalty, is_no_part_of_the_density)
{
    nf_real *x = normals(1, ROWS * DIM, 1.2), y[2][ROWS * DIM];
    double log_p[2][ROWS];
    for (int k = 0; k < 2; k++) {
        nf_model *m = model_of(nf_pushforward(nf_diagonal_normal(DIM), new_leash(DIM, k ? &tight : &none, 0)));
        cr_assert_eq(nf_log_prob(m, NULL, NULL, ROWS, x, NULL, log_p[k]), NF_OK);
        cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 3}, ROWS, NULL, y[k], NULL), NF_OK);
        nf_model_free(m);
    }
    cr_assert_eq(memcmp(log_p[0], log_p[1], sizeof log_p[0]), 0);
    cr_assert_eq(memcmp(y[0], y[1], sizeof y[0]), 0);
    free(x);
}

/* A row whose penalty is not finite is left out like one without a density. */
Test(penalty, that_is_not_finite)
{
    nf_real *x = normals(1, ROWS * DIM, 1.2);
    x[5 * DIM] = (nf_real)(sizeof(nf_real) == sizeof(double) ? 1e154 : 1e19);
    static const leash huge = {.w = 1e300};
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(DIM), new_leash(DIM, &huge, 0)), NULL);
    nf_objective *o =
        nf_maximum_likelihood(m, &(nf_data){.n = ROWS, .dim = DIM, .x = x}, &(nf_likelihood_options){.batch = ROWS});
    const nf_step_report r = train(o, 1, NULL);
    cr_assert_eq(r.failed, 1);
    cr_assert(isfinite(r.penalty) && r.penalty > 1e299);
    cr_assert_eq(value(o, 41, 5).failed, 0);
    nf_objective_free(o);
    nf_model_free(m);
    free(x);
}

/* ---- nf_check_flow ---- */

Test(penalty, is_checked_with_the_flow)
{
    const double good = sizeof(nf_real) == sizeof(double) ? 1e-9 : 1e-3;
    static const leash liar = {.w = 0.3, .lie = 0.01};
    for (int implicit = 0; implicit < 2; implicit++)
        for (int which = 0; which < 3; which++) {
            const leash *self = which == 0 ? &none : which == 1 ? &tight : &liar;
            nf_model *m = nf_model_of_flow(
                nf_chain((nf_flow *[]){nf_planar(DIM), new_leash(DIM, self, implicit ? NF_IMPLICIT_INVERSE : 0)}, 2),
                &(nf_model_options){.seed = 2});
            nf_check_report r;
            cr_assert_eq(nf_check_flow(m, &(nf_check_options){.seed = 1, .theta_scale = 0.3}, &r), NF_OK, "%s",
                         nf_error_message());
            for (int d = 0; d < 2; d++) {
                const double error = r.penalty_error[d];
                cr_assert(which == 0   ? error == 0
                          : which == 1 ? error > 0 && error < good
                                       : error > 1e-3,
                          "leash %d, direction %d: %g", which, d, error);
                cr_assert(r.x_error[d] < good && r.theta_error[d] < good);
            }
            nf_model_free(m);
        }
}

/* Where a direction has no gradient, and where it does not exist, the report says so. */
Test(penalty, is_not_checked_without_a_gradient)
{
    static const nf_flow_type no_solve = {
        .abi = sizeof(nf_flow_type), .part = {.name = "no_solve"}, .apply = leash_apply, .vjp = leash_vjp};
    const nf_shape own = {.dim_in = DIM, .dim_out = DIM, .n_params = DIM, .flags = NF_PER_SAMPLE | NF_IMPLICIT_INVERSE};
    nf_model *m = nf_model_of_flow(nf_flow_new(&no_solve, &own, &tight, NULL, 0), NULL);
    nf_check_report r;
    cr_assert_eq(nf_check_flow(m, NULL, &r), NF_OK, "%s", nf_error_message());
    cr_assert(r.penalty_error[0] < 1e-2 && isnan(r.penalty_error[1]));
    nf_model_free(m);
}
