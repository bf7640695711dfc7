/* Groups of draws: importance-weighted and Renyi's bounds, the doubly reparameterised gradient; likelihood on weighted
   draws; equal noise in models of equal structure. */
#include "fail_step.h"
#include "objective_fixture.h"
#include "support/numbers.h"

#ifdef NF_SINGLE
enum { is_double = false };
#else
enum { is_double = true };
#endif
enum { SEED = 41, STEP = 5 };

/* ---- a target ---- */

/* The normal with this precision, times exp(0.37), or with `waves` something without a normaliser that is known. Draws
   with x_0 beyond `limit` are rejected; gradients are NaN beyond `broken`. */
typedef struct bell {
    double precision[2][2], limit, broken;
    bool waves;
} bell;

static const bell plain = {.precision = {{2.1, -0.6}, {-0.6, 1.3}}, .limit = 1e9, .broken = 1e9};
static const bell wavy = {.precision = {{2.1, -0.6}, {-0.6, 1.3}}, .limit = 1e9, .broken = 1e9, .waves = true};

static int ring(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    const bell *t = user;
    const double(*p)[2] = t->precision;
    const double constant = 0.37 - log(2 * acos(-1)) + 0.5 * log(p[0][0] * p[1][1] - p[0][1] * p[1][0]);
    for (size_t i = 0; i < n; i++) {
        const double u = x[i * d], v = x[i * d + 1];
        const double gu = -p[0][0] * u - p[0][1] * v, gv = -p[1][0] * u - p[1][1] * v;
        log_p[i] = constant + 0.5 * (u * gu + v * gv) + (t->waves ? sin(u + 2 * v) : 0);
        if (grad) {
            grad[i * d] = gu + (t->waves ? cos(u + 2 * v) : 0);
            grad[i * d + 1] = x[i * d] > t->broken ? NAN : gv + (t->waves ? 2 * cos(u + 2 * v) : 0);
        }
        rejected[i] = u > t->limit;
    }
    return 0;
}

static nf_target *target_of(bell *t, bool serial)
{
    return nf_target_callback(2, ring, t, serial ? NF_SERIAL : NF_THREADSAFE);
}

static nf_model *layered(void)
{
    nf_flow *f[] = {nf_planar(2), nf_affine(2), nf_radial(2), nf_lu_linear(2, 17)};
    return stir(nf_model_of_dist(nf_pushforward(nf_diagonal_normal(2), nf_chain(f, 4)), &(nf_model_options){.seed = 7}),
                0.2);
}

/* ---- the loss by its definition ---- */

enum { N = 120 };

/* Minus the bound of one group, with log weights l [n] of its accepted draws, of `drawn` that there are. */
static double bound(size_t n, const double *l, size_t drawn, double alpha, double kl)
{
    double sum = 0;
    for (size_t k = 0; k < n; k++)
        sum += (alpha == 1 ? l[k] : exp((1 - alpha) * l[k])) / (double)n;
    return -(alpha == 1 ? sum : log(sum) / (1 - alpha)) - kl * log((double)n / (double)drawn);
}

/* The loss of a step of N draws. Draws beyond `broken` are left out. */
static double defined(nf_model *m, const nf_elbo_options *q, bell *t, double beta, double kl)
{
    nf_real x[N * 2];
    double log_q[N], points[N * 2], log_p[N], sum = 0, groups = 0;
    unsigned char rejected[N];
    cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = SEED, .step = STEP}, N, NULL, x, log_q), NF_OK);
    for (size_t i = 0; i < N * 2; i++)
        points[i] = (double)x[i];
    memset(rejected, 0, sizeof rejected);
    ring(t, N, 2, points, log_p, NULL, rejected);
    for (size_t first = 0; first < N; first += q->importance) {
        double l[N];
        size_t n = 0, drawn = 0;
        for (size_t i = first; i < first + q->importance; i++) {
            if (points[i * 2] > t->broken)
                continue;
            drawn++;
            if (!rejected[i])
                l[n++] = beta * log_p[i] - kl * log_q[i];
        }
        groups += n > 0;
        sum += n ? bound(n, l, drawn, q->alpha, kl) : 0;
    }
    return sum / groups;
}

static const double orders[] = {0, 0.5, 1, 2, -1.5, 1 - 1e-9};
enum { N_ORDERS = sizeof orders / sizeof *orders };

Test(iwae, losses_by_definition)
{
    nf_model *m = layered();
    for (size_t k = 0; k < 4 * N_ORDERS; k++) {
        bell b = wavy;
        b.limit = k % 4 > 1 ? 0.4 : 1e9; /* with groups of 2 some have no accepted draw */
        nf_elbo_options q = {.draws = N, .importance = k % 4 > 1 ? 2 : 8, .alpha = orders[k / 4]};
        q.joint = (nf_schedule){.kind = NF_CONSTANT, .from = 0.8};
        q.kl = (nf_schedule){.kind = NF_CONSTANT, .from = 0.9};
        nf_target *t = target_of(&b, k % 2);
        nf_objective *o = nf_elbo(m, t, &q);
        cr_assert_not_null(o, "%s", nf_error_message());
        const nf_step_report r = value(o, SEED, STEP);
        const double wanted = defined(m, &q, &b, 0.8, 0.9);
        cr_assert_float_eq(r.loss, wanted, (is_double ? 1e-6 : 1e-4) * (1 + fabs(wanted)), "alpha %g: %g, not %g",
                           q.alpha, r.loss, wanted);
        cr_assert_eq(r.rejected > 10, b.limit < 1);
        cr_assert_float_eq(r.term[2], log(1 - (double)r.rejected / N), 1e-12);
        cr_assert_eq(r.term[3], 0);
        nf_objective_free(o);
        nf_target_free(t);
    }
    nf_model_free(m);
}

/* Weights whose logarithms differ by thousands. Of each group one draw has nearly all of sum w^a, so that the loss is
   minus its log w, but for the logarithm of K. */
Test(iwae, large_weights)
{
    enum { K = 5, DRAWS = 40 };
    bell b = plain;
    b.precision[0][0] = 1e5, b.precision[1][1] = 3e5;
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(2), NULL);
    nf_target *t = target_of(&b, false);
    nf_real x[DRAWS * 2], g[4];
    double log_q[DRAWS], points[DRAWS * 2], log_p[DRAWS];
    cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = SEED, .step = STEP}, DRAWS, NULL, x, log_q), NF_OK);
    for (size_t i = 0; i < DRAWS * 2; i++)
        points[i] = (double)x[i];
    cr_assert_eq(nf_target_eval(t, DRAWS, points, log_p, NULL, NULL), NF_OK);
    for (int above = 0; above < 2; above++) { /* alpha = 2: the smallest weight has the largest power */
        double wanted = 0;
        for (size_t first = 0; first < DRAWS; first += K) {
            double far = log_p[first] - log_q[first];
            for (size_t i = first; i < first + K; i++)
                far = above ? fmin(far, log_p[i] - log_q[i]) : fmax(far, log_p[i] - log_q[i]);
            wanted -= (far + (above ? 1 : -1) * log(K)) / (DRAWS / K);
        }
        nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = DRAWS, .importance = K, .alpha = above ? 2 : 0});
        nf_step_report r;
        cr_assert_eq(nf_objective_gradient(o, NULL, SEED, STEP, &r, g), NF_OK);
        cr_assert_eq(r.failed, 0);
        cr_assert(isfinite(r.grad_norm) && r.grad_norm > 1);
        cr_assert_float_eq(r.loss, wanted, 1e-5 * wanted, "%g, not %g", r.loss, wanted);
        nf_objective_free(o);
    }
    nf_target_free(t);
    nf_model_free(m);
}

/* Draws whose gradient is no number are left out, and their groups are smaller. */
Test(iwae, broken_draws_are_left_out)
{
    nf_model *m = layered();
    nf_real g[64];
    for (int serial = 0; serial < 2; serial++) {
        bell b = wavy;
        b.broken = 0.6;
        const nf_elbo_options q = {.draws = N, .importance = 8};
        nf_target *t = target_of(&b, serial);
        nf_objective *o = nf_elbo(m, t, &q);
        nf_step_report r;
        cr_assert_eq(nf_objective_gradient(o, NULL, SEED, STEP, &r, g), NF_OK);
        cr_assert(r.failed > 10 && r.failed < N - 10, "%zu", r.failed);
        cr_assert_eq(r.rejected, 0);
        cr_assert_float_eq(r.loss, defined(m, &q, &b, 1, 1), is_double ? 1e-12 : 1e-4);
        nf_objective_free(o);
        nf_target_free(t);
    }
    nf_model_free(m);
}

/* ---- gradients ---- */

Test(iwae, gradients_with_the_noise_held)
{
    for (size_t k = 0; k < 2 * N_ORDERS; k++) {
        bell b = wavy;
        b.limit = k % 2 ? 0.8 : 1e9;
        nf_model *m = layered();
        nf_target *t = target_of(&b, k % 3 == 0);
        nf_elbo_options q = {.draws = 40, .importance = 5, .alpha = orders[k / 2]};
        q.joint = (nf_schedule){.kind = NF_CONSTANT, .from = 0.7};
        q.kl = (nf_schedule){.kind = NF_CONSTANT, .from = 0.9};
        nf_objective *o = nf_elbo(m, t, &q);
        const nf_step_report r = check_gradient(m, o);
        cr_assert_eq(r.rejected > 0, k % 2);
        nf_objective_free(o);
        nf_target_free(t);
        nf_model_free(m);
    }
}

static nf_real *gradient(nf_model *m, const nf_target *t, const nf_elbo_options *q, double *loss)
{
    nf_objective *o = nf_elbo(m, t, q);
    cr_assert_not_null(o, "%s", nf_error_message());
    nf_real *g = reals(nf_model_shape(m)->n_params);
    nf_step_report r;
    cr_assert_eq(nf_objective_gradient(o, NULL, SEED, STEP, &r, g), NF_OK, "%s", nf_error_message());
    *loss = r.loss;
    nf_objective_free(o);
    return g;
}

/* Order 1 is the ELBO, to rounding and with both gradients; so is what is near it, and a group of one draw. */
Test(iwae, order_one_is_the_elbo)
{
    bell b = wavy;
    nf_model *m = layered();
    nf_target *t = target_of(&b, false);
    const size_t n = nf_model_shape(m)->n_params;
    for (int k = 0; k < 6; k++) {
        const nf_gradient way = k % 2 ? NF_GRADIENT_STL : NF_GRADIENT_PATH;
        const nf_elbo_options alone = {.draws = N, .gradient = way};
        const nf_elbo_options grouped = {.draws = N,
                                         .importance = k < 4 ? 6 : 1,
                                         .gradient = way,
                                         .alpha = k < 2   ? 1
                                                  : k < 4 ? 1 + 1e-8
                                                          : 0};
        double loss[2];
        nf_real *wanted = gradient(m, t, &alone, &loss[0]), *got = gradient(m, t, &grouped, &loss[1]);
        cr_assert_float_eq(loss[0], loss[1], 1e-6 * (1 + fabs(loss[0])));
        for (size_t i = 0; i < n; i++)
            near((double)got[i], (double)wanted[i], k < 2 ? (is_double ? 1e-12 : 1e-4) : (is_double ? 1e-6 : 1e-4),
                 "order one", i);
        free(wanted), free(got);
    }
    nf_target_free(t);
    nf_model_free(m);
}

/* The two gradients have one mean, along a fixed direction; the doubly reparameterised one has less variance where the
   groups are large. */
Test(iwae, doubly_reparameterised_has_the_same_mean)
{
    enum { STEPS = 600 };
    bell b = wavy;
    nf_model *m = layered();
    nf_target *t = target_of(&b, false);
    const size_t n = nf_model_shape(m)->n_params;
    nf_real *v = normals(13, n, 1), *g = reals(n);
    for (int k = 0; k < 4; k++) {
        double sum[3] = {0}, squares[3] = {0}; /* of the differences, the total gradient, the other */
        nf_objective *o[2];
        for (int way = 0; way < 2; way++) {
            nf_elbo_options q = {.draws = 60, .importance = 3, .gradient = way ? NF_GRADIENT_STL : NF_GRADIENT_PATH};
            q.alpha = (double[]){0, 0.6, 0, 0}[k];
            q.kl = (nf_schedule){.kind = NF_CONSTANT, .from = k == 2 ? 0.6 : 1};
            q.importance = k == 3 ? 30 : 3;
            o[way] = nf_elbo(m, t, &q);
        }
        for (uint64_t step = 0; step < STEPS; step++) {
            double along[2];
            for (int way = 0; way < 2; way++) {
                cr_assert_eq(nf_objective_gradient(o[way], NULL, 5, step, NULL, g), NF_OK);
                along[way] = dot(n, g, v);
            }
            const double of[3] = {along[1] - along[0], along[0], along[1]};
            for (int i = 0; i < 3; i++) {
                sum[i] += of[i] / STEPS;
                squares[i] += of[i] * of[i] / STEPS;
            }
        }
        double variance[3];
        for (int i = 0; i < 3; i++)
            variance[i] = squares[i] - sum[i] * sum[i];
        const double error = sqrt(variance[0] / (STEPS - 1));
        cr_assert(error > 0 && (k == 3 || error < 0.2 * fabs(sum[1])), "case %d: %g of %g says nothing", k, error,
                  sum[1]);
        cr_assert_lt(fabs(sum[0]), 4 * error, "case %d: %g +- %g", k, sum[0], error);
        cr_assert(k != 3 || variance[2] < 0.5 * variance[1], "%g, %g", variance[2], variance[1]);
        nf_objective_free(o[0]);
        nf_objective_free(o[1]);
    }
    free(v), free(g);
    nf_target_free(t);
    nf_model_free(m);
}

Test(iwae, doubly_reparameterised_is_zero_at_the_target)
{
    nf_model *m = layered();
    nf_target *t = nf_target_of_model(m, NULL);
    double loss;
    nf_real *g = gradient(m, t, &(nf_elbo_options){.draws = 60, .importance = 6, .gradient = NF_GRADIENT_STL}, &loss);
    cr_assert_float_eq(loss, 0, is_double ? 1e-12 : 1e-4);
    for (size_t i = 0; i < nf_model_shape(m)->n_params; i++)
        cr_assert_float_eq(g[i], 0, is_double ? 1e-12 : 1e-3);
    free(g);
    nf_target_free(t);
    nf_model_free(m);
}

/* ---- bounds ---- */

/* For a fixed q they grow with K, and with falling alpha, and stay below log Z = 0.37 for alpha >= 0. */
Test(iwae, bounds_grow_towards_the_evidence)
{
    enum { STEPS = 30 };
    bell b = plain;
    nf_target *t = target_of(&b, false);
    nf_model *m = nf_model_of_dist(nf_diagonal_normal(2), NULL);
    const struct {
        size_t K;
        double alpha;
    } of[] = {{1, 0}, {4, 0.5}, {4, 0}, {20, 0}, {100, 0}};
    double before = -INFINITY;
    for (size_t k = 0; k < 5; k++) {
        nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = 2000, .importance = of[k].K, .alpha = of[k].alpha});
        double sum = 0, squares = 0;
        for (uint64_t step = 0; step < STEPS; step++) {
            const double bound = -value(o, 3, step).loss;
            sum += bound / STEPS;
            squares += bound * bound / STEPS;
        }
        const double error = sqrt((squares - sum * sum) / (STEPS - 1));
        cr_assert_lt(sum, 0.37 + 3 * error, "K %zu: %g +- %g", of[k].K, sum, error);
        cr_assert_gt(sum, before, "K %zu: %g, not above %g", of[k].K, sum, before);
        cr_assert(k < 4 || sum > 0.37 - 0.01, "%g", sum);
        before = sum;
        nf_objective_free(o);
    }
    nf_target_free(t);
    nf_model_free(m);
}

/* ---- bits, refusals, failures ---- */

/* Groups of 10, which tiles cut. */
Test(iwae, same_bits_for_all_thread_counts_and_both_rules)
{
    nf_model *m = layered();
    const size_t n = nf_model_shape(m)->n_params;
    nf_real *first = reals(n), *g = reals(n);
    nf_step_report r, wanted = {0};
    for (size_t k = 0; k < 12; k++) {
        bell b = wavy;
        b.limit = 0.9;
        nf_target *t = target_of(&b, k >= 4 && k < 8);
        nf_objective *o =
            nf_elbo(m, t, &(nf_elbo_options){.draws = 1010, .importance = 10, .gradient = NF_GRADIENT_STL});
        nf_workspace *ws = nf_workspace_new(k % 4 + 1);
        memset(&r, 0, sizeof r);
        cr_assert_eq(nf_objective_gradient(o, ws, 12, 3, &r, g), NF_OK);
        cr_assert_eq(nf_objective_gradient(o, ws, 12, 3, &r, k ? g : first), NF_OK);
        wanted = k ? wanted : r;
        cr_assert_gt(r.rejected, 10);
        cr_assert_eq(memcmp(&r.loss, &wanted.loss, sizeof r.loss), 0);
        if (k)
            same_numbers(n, g, first, "gradient");
        cr_assert_eq(nf_objective_value(o, ws, 12, 3, &r), NF_OK);
        cr_assert_float_eq(r.loss, wanted.loss, 1e-12);
        nf_workspace_free(ws);
        nf_objective_free(o);
        nf_target_free(t);
    }
    free(first), free(g);
    nf_model_free(m);
}

static void refused(nf_model *m, const nf_target *t, nf_elbo_options q, nf_status status, const char *words)
{
    expect_none(nf_elbo(m, t, &q), status, words);
}

Test(iwae, refusals)
{
    bell b = plain;
    nf_target *t = target_of(&b, false);
    nf_model *m = layered(), *mixed = nf_model_of_dist(nf_mixture(2, 2), NULL);
    refused(m, t, (nf_elbo_options){.draws = 100, .importance = 7}, NF_EARG, "100 draws are not whole groups of 7");
    refused(m, t, (nf_elbo_options){.alpha = 0.5}, NF_EARG, "`alpha` is 0.5, but without groups");
    refused(m, t, (nf_elbo_options){.importance = 5, .alpha = NAN}, NF_EARG, "`alpha` is ");
    refused(m, t, (nf_elbo_options){.importance = SIZE_MAX}, NF_EARG, "`importance` is ");
    refused(m, t, (nf_elbo_options){.importance = SIZE_MAX / 4}, NF_ENOMEM, "do not fit in memory");
    refused(m, t, (nf_elbo_options){.importance = 5, .gradient = NF_GRADIENT_SCORE}, NF_EUNSUPPORTED,
            "no gradient by the score");
    nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.importance = 7});
    cr_assert_eq(nf_objective_batch(o), 105, "the next multiple of 7");
    nf_objective_free(o);
    o = nf_elbo(mixed, t, &(nf_elbo_options){.importance = 5});
    nf_real g[10];
    expect(nf_objective_gradient(o, NULL, 1, 1, NULL, g), NF_EUNSUPPORTED, "nf_mixture: components were drawn");
    nf_step_report r;
    cr_assert_eq(nf_objective_value(o, NULL, 1, 1, &r), NF_OK);
    nf_objective_free(o);
    nf_model_free(m);
    nf_model_free(mixed);
    nf_target_free(t);
}

/* In place of two ranks, the first alone: what it computes does not matter here. */
static nf_status first_rank_alone(void *user, const nf_reduction *r)
{
    (void)user, (void)r;
    return NF_OK;
}

Test(iwae, ranks_have_whole_groups)
{
    enum { DRAWS = 16 * 11 * 59 };
    bell b = plain;
    nf_model *m = layered();
    nf_target *t = target_of(&b, false);
    const nf_ranks ranks = {.rank = 0, .n_ranks = 2, .all_reduce = first_rank_alone};
    nf_real g[64];
    for (size_t K = 11; K <= 16; K += 5) {
        nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = DRAWS, .importance = K});
        size_t first, n;
        cr_assert_eq(nf_objective_share(o, 0, 2, &first, &n), NF_OK, "%s", nf_error_message());
        cr_assert(n % K == 0 ? K == 16 : K == 11, "%zu draws", n);
        const nf_status status = nf_objective_rank_gradient(o, NULL, &ranks, 1, 1, NULL, g);
        if (K == 16)
            cr_assert_eq(status, NF_OK, "%s", nf_error_message());
        else
            expect(status, NF_EUNSUPPORTED, "which are not whole groups of 11");
        nf_objective_free(o);
    }
    nf_target_free(t);
    nf_model_free(m);
}

static nf_objective *groups_of(nf_model *m, const void *target)
{
    return nf_elbo(m, *(nf_target *const *)target, &(nf_elbo_options){.draws = 90, .importance = 9});
}

Test(iwae, failing_allocations)
{
    bell b = plain;
    nf_model *m = layered();
    nf_real g[64];
    for (int serial = 0; serial < 2; serial++) {
        nf_target *t = target_of(&b, serial);
        cr_assert_geq(fail_each_of_a_step(fail_alloc_after, groups_of, m, &t, g), 4);
        nf_target_free(t);
    }
    nf_model_free(m);
}

/* ---- likelihood on weighted draws ---- */

/* As nflow/vi.h shows it: rounds of draws of q, weighted by p / q, and a fit to these. The target is normal, so that
   mean and covariance of the best q are known. */
Test(iwae, likelihood_on_weighted_draws_covers_the_target)
{
    enum { DRAWS = 2000, ROUNDS = 8 };
    static nf_real x[DRAWS * 2];
    static double points[DRAWS * 2], log_q[DRAWS], log_p[DRAWS], w[DRAWS];
    bell b = plain;
    nf_target *t = target_of(&b, false);
    nf_model *m = nf_model_of_dist(nf_full_normal(2), NULL);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 1, .step = round}, DRAWS, NULL, x, log_q), NF_OK);
        for (size_t i = 0; i < DRAWS * 2; i++)
            points[i] = (double)x[i];
        cr_assert_eq(nf_target_eval(t, DRAWS, points, log_p, NULL, NULL), NF_OK);
        for (size_t i = 0; i < DRAWS; i++)
            w[i] = fmin(exp(log_p[i] - log_q[i] - 0.37), 10);
        nf_objective *o = nf_maximum_likelihood(m, &(nf_data){.n = DRAWS, .dim = 2, .x = x, .weight = w},
                                                &(nf_likelihood_options){.batch = DRAWS});
        cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 40, .rate = 0.03}, NULL), NF_OK, "%s", nf_error_message());
        nf_objective_free(o);
    }
    /* precision P = (L L^T)^-1, so L L^T = P^-1 */
    const nf_real *theta = nf_model_theta(m);
    const double l00 = exp((double)theta[2]), l11 = exp((double)theta[3]), l10 = (double)theta[4];
    const double det = plain.precision[0][0] * plain.precision[1][1] - pow(plain.precision[0][1], 2);
    cr_assert_float_eq(theta[0], 0, 0.06);
    cr_assert_float_eq(theta[1], 0, 0.06);
    cr_assert_float_eq(l00 * l00, plain.precision[1][1] / det, 0.06);
    cr_assert_float_eq(l00 * l10, -plain.precision[0][1] / det, 0.06);
    cr_assert_float_eq(l10 * l10 + l11 * l11, plain.precision[0][0] / det, 0.08);
    nf_model_free(m);
    nf_target_free(t);
}

/* ---- common random numbers ---- */

/* The draws of a step, as the target saw them. */
typedef struct seen {
    size_t n;
    double x[N * 2];
} seen;

static int sees(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    (void)rejected;
    seen *s = user;
    s->n = n;
    memcpy(s->x, x, n * d * sizeof *x);
    for (size_t i = 0; i < n; i++)
        log_p[i] = -x[i * d] * x[i * d];
    for (size_t i = 0; grad && i < n * d; i++)
        grad[i] = i % d ? 0 : -2 * x[i];
    return 0;
}

/* Models of equal structure, with other numbers and other estimators, see equal noise. */
Test(iwae, equal_structure_has_equal_noise)
{
    static seen s[3];
    const nf_elbo_options q[] = {{.draws = N},
                                 {.draws = N, .gradient = NF_GRADIENT_STL},
                                 {.draws = N, .importance = 6, .gradient = NF_GRADIENT_STL}};
    for (int k = 0; k < 3; k++) {
        nf_model *m =
            nf_model_of_dist(nf_pushforward(nf_student_t(2, &(nf_student_t_options){.df = 5}), nf_affine(2)), NULL);
        nf_real *theta = nf_model_theta(m), g[4];
        const nf_real moved[] = {NF_R(0.5) * (nf_real)k, 2, NF_R(-0.25) * (nf_real)k, 0};
        memcpy(theta, moved, sizeof moved);
        cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
        nf_target *t = nf_target_callback(2, sees, &s[k], NF_SERIAL);
        nf_objective *o = nf_elbo(m, t, &q[k]);
        cr_assert_eq(nf_objective_gradient(o, NULL, 8, 2, NULL, g), NF_OK);
        cr_assert_eq(s[k].n, N);
        for (size_t i = 0; i < N * 2; i++) { /* the base's draw */
            s[k].x[i] = (s[k].x[i] - (double)moved[i % 2]) * exp(-(double)moved[2 + i % 2]);
            cr_assert_float_eq(s[k].x[i], s[0].x[i], is_double ? 1e-12 : 1e-4);
        }
        nf_objective_free(o);
        nf_target_free(t);
        nf_model_free(m);
    }
    cr_assert_gt(fabs(s[0].x[0] - s[0].x[2]), 1e-3);
}
