/* Sticking the landing: zero at q = p, its definition by differences, its mean, weights, rejected draws, penalties. */
#include "conformance/rows.h"
#include "conformance/dist_rows.h"
#include "fail_step.h"
#include "objective_fixture.h"
#include "support/numbers.h"

enum { DRAWS = 36, SEED = 71, STEP = 4 };
#ifdef NF_SINGLE
enum { is_double = false };
#else
enum { is_double = true };
#endif

/* NULL if the model reads a context or has no parameters. */
static nf_model *bind(nf_dist *dist, double theta_scale)
{
    cr_assert_not_null(dist, "%s", nf_error_message());
    const nf_shape *shape = nf_dist_shape(dist);
    if (shape->n_ctx || !shape->n_params) {
        nf_dist_free(dist);
        return NULL;
    }
    nf_model *m = nf_model_of_dist(dist, &(nf_model_options){.seed = 3});
    const size_t n = nf_model_shape(m)->n_params;
    nf_real *more = normals(41, n, theta_scale);
    for (size_t i = 0; i < n; i++)
        nf_model_theta(m)[i] += more[i];
    free(more);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    return m;
}

static nf_dist *pushed(const row *r, size_t dim)
{
    nf_flow *f = r->build(dim, 0);
    cr_assert_not_null(f, "%s", r->name);
    const size_t base = nf_flow_shape(f)->dim_in;
    return nf_pushforward(nf_normal(base), f);
}

static double norm(size_t n, const nf_real *v)
{
    return sqrt(dot(n, v, v));
}

/* The gradient of a step; *r NULL: not wanted. */
static nf_real *gradient_of(nf_model *m, const nf_target *t, nf_elbo_options options, uint64_t step, nf_step_report *r)
{
    options.draws = options.draws ? options.draws : DRAWS;
    nf_objective *o = nf_elbo(m, t, &options);
    nf_real *g = reals(nf_model_shape(m)->n_params);
    cr_assert_eq(nf_objective_gradient(o, NULL, SEED, step, r, g), NF_OK, "%s", nf_error_message());
    nf_objective_free(o);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    return g;
}

/* ---- at q = p ---- */

/* |gradient| beside that of NF_GRADIENT_PATH, for the target `t`. */
static double share(nf_model *m, const nf_target *t)
{
    const size_t n = nf_model_shape(m)->n_params;
    nf_real *path = gradient_of(m, t, (nf_elbo_options){.gradient = NF_GRADIENT_PATH}, STEP, NULL);
    nf_real *stl = gradient_of(m, t, (nf_elbo_options){.gradient = NF_GRADIENT_STL}, STEP, NULL);
    const double of = norm(n, stl) / (norm(n, path) + 1e-2); /* reflections alone do not change a standard normal */
    free(path), free(stl);
    return of;
}

/* A normal with precision P = L^-T L^-1 and its normaliser, where L has the given numbers. */
typedef struct normal3 {
    const nf_real *theta; /* m, log-diagonal of L, rows below the diagonal */
} normal3;

static int normal_point(void *user, size_t d, const double *x, double *log_p, double *grad)
{
    const nf_real *theta = ((const normal3 *)user)->theta, *l = theta + 2 * d;
    double u[3], v[3];
    *log_p = -0.5 * (double)d * log(2 * acos(-1));
    for (size_t i = 0; i < d; i++) { /* L u = x - m */
        u[i] = x[i] - (double)theta[i];
        for (size_t j = 0; j < i; j++)
            u[i] -= (double)l[i * (i - 1) / 2 + j] * u[j];
        u[i] *= exp(-(double)theta[d + i]);
        *log_p -= 0.5 * u[i] * u[i] + (double)theta[d + i];
    }
    for (size_t i = d; grad && i-- > 0;) { /* L^T v = u */
        v[i] = u[i];
        for (size_t j = i + 1; j < d; j++)
            v[i] -= (double)l[j * (j - 1) / 2 + i] * v[j];
        v[i] *= exp(-(double)theta[d + i]);
        grad[i] = -v[i];
    }
    return 0;
}

Test(stl, zero_at_normals)
{
    nf_real theta[9] = {NF_R(0.7), NF_R(-1.2), NF_R(0.3),  NF_R(0.4), NF_R(-0.9),
                        NF_R(0.2), NF_R(0.8),  NF_R(-0.5), NF_R(1.1)};
    normal3 p = {theta};
    nf_target *t = nf_target_point_callback(3, normal_point, &p, NF_THREADSAFE);
    nf_model *m = nf_model_of_dist(nf_full_normal(3), NULL);
    memcpy(nf_model_theta(m), theta, sizeof theta);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    cr_assert_lt(share(m, t), is_double ? 1e-13 : 1e-5);
    nf_model_free(m);
    theta[6] = theta[7] = theta[8] = 0;
    m = nf_model_of_dist(nf_diagonal_normal(3), NULL);
    memcpy(nf_model_theta(m), theta, 6 * sizeof *theta);
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    cr_assert_lt(share(m, t), is_double ? 1e-13 : 1e-5);
    nf_model_free(m);
    nf_target_free(t);
}

/* The target is the model itself, so what the one pass makes of its layers is compared with what the inverse gives. */
static void zero_at_itself(nf_model *m, double slack, const char *name)
{
    nf_target *t = nf_target_of_model(m, NULL);
    cr_assert_not_null(t, "%s: %s", name, nf_error_message());
    const double of = share(m, t);
    cr_assert_lt(of, slack * (is_double ? 1e-12 : 1e-3), "%s: %g", name, of);
    nf_target_free(t);
}

Test(stl, zero_at_every_flow)
{
    size_t cases = 0;
    for (size_t r = 0; r < N_ROWS; r++) {
        nf_model *m = bind(pushed(&rows[r], rows[r].traits & COSTLY ? 2 : 5), rows[r].theta_scale);
        if (m) {
            zero_at_itself(m, rows[r].slack, rows[r].name);
            cases++;
        }
        nf_model_free(m);
    }
    cr_assert_gt(cases, N_ROWS / 2);
}

/* Mixtures are drawn in turn, and DRAWS is a multiple of their components. */
Test(stl, zero_at_every_distribution)
{
    size_t cases = 0;
    for (size_t r = 0; r < N_DIST_ROWS; r++) {
        nf_model *m = bind(dist_rows[r].build(3), dist_rows[r].theta_scale);
        if (m && strcmp(dist_rows[r].name, "joint") != 0) { /* its mixture draws plainly, which has no gradient */
            zero_at_itself(m, 1, dist_rows[r].name);
            cases++;
        }
        nf_model_free(m);
    }
    cr_assert_geq(cases, 7);
}

/* The model's own density where x_0 is at most 0.4, and nothing beyond. */
static int cut(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    unsigned char of_inner[DRAWS];
    if (n > DRAWS || nf_target_eval(user, n, x, log_p, grad, of_inner) != NF_OK)
        return 1;
    for (size_t i = 0; i < n; i++)
        rejected[i] = x[i * d] > 0.4;
    return 0;
}

/* q_A = p although q is not: the total gradient has the gradient of log Z there, this one nothing. */
Test(stl, zero_at_the_accepted_part_of_itself)
{
    nf_flow *f[] = {nf_planar(2), nf_full_affine(2)};
    nf_model *m = bind(nf_pushforward(nf_diagonal_normal(2), nf_chain(f, 2)), 0.3);
    nf_target *inner = nf_target_of_model(m, NULL), *t = nf_target_callback(2, cut, inner, NF_SERIAL);
    nf_step_report r;
    free(gradient_of(m, t, (nf_elbo_options){.gradient = NF_GRADIENT_STL}, STEP, &r));
    cr_assert(r.rejected > 3 && r.rejected < DRAWS - 3, "%zu", r.rejected);
    cr_assert_lt(share(m, t), is_double ? 1e-12 : 1e-4);
    nf_target_free(t);
    nf_target_free(inner);
    nf_model_free(m);
}

/* ---- by its definition ---- */

/* log p = -|x - 0.3|^2 / 3 + sin(x_0 + ... + x_(d-1)); points with x_0 above *limit are rejected. */
static int waves(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad, unsigned char *rejected)
{
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        log_p[i] = 0;
        for (size_t j = 0; j < d; j++) {
            sum += x[i * d + j];
            log_p[i] -= pow(x[i * d + j] - 0.3, 2) / 3;
        }
        log_p[i] += sin(sum);
        for (size_t j = 0; grad && j < d; j++)
            grad[i * d + j] = -2 * (x[i * d + j] - 0.3) / 3 + cos(sum);
        rejected[i] = user && x[i * d] > *(const double *)user;
    }
    return 0;
}

static const nf_elbo_options annealed = {
    .joint = {.kind = NF_CONSTANT, .from = 0.7}, .kl = {.kind = NF_CONSTANT, .from = 0.9}, .gradient = NF_GRADIENT_STL};

/* <c, x> / accepted draws, over draws at theta moved by h v. */
static double along(nf_model *m, const double *c, size_t n, double h, const nf_real *v)
{
    const size_t n_params = nf_model_shape(m)->n_params, d = nf_model_shape(m)->dim_out;
    nf_model *moved = nf_model_copy(m);
    cr_assert_not_null(moved, "%s", nf_error_message());
    nf_real *x = reals(n * d);
    for (size_t i = 0; i < n_params; i++)
        nf_model_theta(moved)[i] += (nf_real)(h * (double)v[i]);
    cr_assert_eq(nf_model_update(moved, NF_EVAL), NF_OK);
    cr_assert_eq(nf_sample(moved, NULL, &(nf_noise){.seed = SEED, .step = STEP}, n, NULL, x, NULL), NF_OK);
    double sum = 0;
    for (size_t i = 0; i < n * d; i++)
        sum += c[i] * (double)x[i];
    nf_model_free(moved);
    free(x);
    return sum;
}

/* The gradient is that of the mean of <c_i, x_i>, with c_i = kl d log q/dx - beta d log p/dx held, at the draws x_i. */
static void check_definition(nf_model *m, double *limit, double slack, const char *name)
{
    const size_t d = nf_model_shape(m)->dim_out, n_params = nf_model_shape(m)->n_params;
    nf_target *t = nf_target_callback(d, waves, limit, NF_SERIAL);
    nf_real *x = reals(DRAWS * d), *gx = reals(DRAWS * d), *v = normals(9, n_params, 1);
    double *c = calloc(DRAWS * (3 * d + 1), sizeof *c), *grad = c + DRAWS * d, *points = grad + DRAWS * d;
    unsigned char rejected[DRAWS];
    nf_step_report r;
    nf_real *g = gradient_of(m, t, annealed, STEP, &r);
    cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = SEED, .step = STEP}, DRAWS, NULL, x, NULL), NF_OK);
    cr_assert_eq(nf_log_prob_gradient(m, NULL, NULL, DRAWS, x, NULL, NULL, gx, NULL), NF_OK, "%s", nf_error_message());
    for (size_t i = 0; i < DRAWS * d; i++)
        points[i] = (double)x[i];
    cr_assert_eq(nf_target_eval(t, DRAWS, points, points + DRAWS * d, grad, rejected), NF_OK);
    size_t accepted = DRAWS;
    for (size_t i = 0; i < DRAWS; i++)
        accepted -= rejected[i];
    cr_assert_eq(r.rejected, DRAWS - accepted);
    cr_assert(accepted > 5 && (!limit || accepted < DRAWS - 5), "%s: %zu", name, accepted);
    for (size_t i = 0; i < DRAWS * d; i++)
        c[i] = rejected[i / d] ? 0 : (0.9 * (double)gx[i] - 0.7 * grad[i]) / (double)accepted;
    const double h = is_double ? 1e-6 : 1e-2;
    const double wanted = (along(m, c, DRAWS, h, v) - along(m, c, DRAWS, -h, v)) / (2 * h), got = dot(n_params, g, v);
    const double size = norm(n_params, g) * norm(n_params, v) / sqrt((double)n_params);
    cr_assert_float_eq(got, wanted, slack * (is_double ? 1e-7 : 0.05) * (size + fabs(wanted)), "%s: %.10g, not %.10g",
                       name, got, wanted);
    free(g), free(x), free(gx), free(v), free(c);
    nf_target_free(t);
}

Test(stl, definition_for_every_flow)
{
    for (size_t r = 0; r < N_ROWS; r++) {
        nf_model *m = bind(pushed(&rows[r], 2), rows[r].theta_scale);
        if (m)
            check_definition(m, NULL, rows[r].slack, rows[r].name);
        nf_model_free(m);
    }
}

Test(stl, definition_for_distributions)
{
    for (size_t r = 0; r < N_DIST_ROWS; r++) {
        const bool weighted = strstr(dist_rows[r].name, "ixture") || strcmp(dist_rows[r].name, "joint") == 0;
        nf_model *m = weighted ? NULL : bind(dist_rows[r].build(3), dist_rows[r].theta_scale);
        if (m)
            check_definition(m, NULL, 10, dist_rows[r].name);
        nf_model_free(m);
    }
}

Test(stl, definition_past_rejected_draws)
{
    double limit = 0.4;
    nf_flow *f[] = {nf_planar(2), nf_radial(2), nf_lu_linear(2, 17)};
    nf_model *m = bind(nf_pushforward(nf_diagonal_normal(2), nf_chain(f, 3)), 0.3);
    check_definition(m, &limit, 1, "rejected");
    nf_model_free(m);
}

/* ---- its mean ---- */

/* Along a fixed direction, the means of this gradient and of the total one agree within their standard errors. */
static void check_mean(nf_model *m, const nf_target *t, size_t draws, const char *name)
{
    enum { STEPS = 400 };
    const size_t n = nf_model_shape(m)->n_params;
    nf_real *v = normals(13, n, 1), *g = reals(n);
    double sum[2] = {0}, squares[2] = {0}; /* of the differences, and of the total gradient */
    nf_objective *o[2];
    for (int k = 0; k < 2; k++)
        o[k] = nf_elbo(m, t, &(nf_elbo_options){.draws = draws, .gradient = k ? NF_GRADIENT_STL : NF_GRADIENT_PATH});
    for (uint64_t step = 0; step < STEPS; step++) {
        double along[2];
        for (int k = 0; k < 2; k++) {
            cr_assert_eq(nf_objective_gradient(o[k], NULL, 5, step, NULL, g), NF_OK, "%s", nf_error_message());
            along[k] = dot(n, g, v);
        }
        const double of[2] = {along[1] - along[0], along[0]};
        for (int k = 0; k < 2; k++) {
            sum[k] += of[k] / STEPS;
            squares[k] += of[k] * of[k] / STEPS;
        }
    }
    const double error = sqrt((squares[0] - sum[0] * sum[0]) / (STEPS - 1));
    cr_assert(error > 0 && error < 0.2 * fabs(sum[1]), "%s: %g of %g says nothing", name, error, sum[1]);
    cr_assert_lt(fabs(sum[0]), 4 * error, "%s: %g +- %g", name, sum[0], error);
    nf_objective_free(o[0]);
    nf_objective_free(o[1]);
    free(v), free(g);
}

Test(stl, mean_is_the_total_gradient)
{
    nf_target *t = nf_target_callback(2, waves, NULL, NF_THREADSAFE);
    const nf_recipe_options small = {.n_layers = 2, .hidden = (size_t[]){8}, .n_hidden = 1, .last_scale = 0.5};
    nf_flow *f[] = {nf_realnvp(2, &small), nf_planar(2), nf_full_affine(2)};
    nf_model *m[] = {
        bind(nf_pushforward(nf_student_t(2, &(nf_student_t_options){.df = 5, .learn = true}), nf_chain(f, 3)), 0.3),
        bind(nf_mixture(2, 3), 0.5), bind(nf_pushforward(nf_gaussian_mixture(2, 2), nf_planar(2)), 0.4)};
    const char *const names[] = {"flow of Student's t", "mixture", "flow of a mixture"};
    for (int k = 0; k < 3; k++) {
        check_mean(m[k], t, k ? 25 : 16, names[k]); /* 25: no multiple of the components */
        nf_model_free(m[k]);
    }
    nf_target_free(t);
}

/* ---- penalties, bits, failures ---- */

/* What a penalty adds to the gradient is the same as in the total one. */
Test(stl, penalties)
{
    nf_real *g[2][2];
    size_t n = 0;
    nf_target *t = nf_target_callback(2, waves, NULL, NF_THREADSAFE);
    for (int penalised = 0; penalised < 2; penalised++) {
        nf_net *field = nf_mlp(3, 2, 0, &(nf_mlp_options){.hidden = (size_t[]){6}, .n_hidden = 1, .last_scale = 0.7});
        const nf_continuous_options options = {.solver = NF_RK4, .steps = 6, .kinetic = penalised ? 0.8 : 0};
        nf_model *m = bind(nf_pushforward(nf_normal(2), nf_continuous(field, &options)), 0.3);
        cr_assert_not_null(m, "%s", nf_error_message());
        n = nf_model_shape(m)->n_params;
        for (int k = 0; k < 2; k++)
            g[penalised][k] =
                gradient_of(m, t, (nf_elbo_options){.gradient = k ? NF_GRADIENT_STL : NF_GRADIENT_PATH}, STEP, NULL);
        nf_model_free(m);
    }
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        const double of_stl = (double)g[1][1][i] - (double)g[0][1][i],
                     of_path = (double)g[1][0][i] - (double)g[0][0][i];
        cr_assert_float_eq(of_stl, of_path, is_double ? 1e-10 : 1e-4);
        most = fmax(most, fabs(of_path));
    }
    cr_assert_gt(most, 0.1);
    for (int k = 0; k < 4; k++)
        free(g[k / 2][k % 2]);
    nf_target_free(t);
}

Test(stl, same_bits_for_all_thread_counts_and_both_rules)
{
    double limit = 0.9;
    const nf_recipe_options small = {.n_layers = 2, .hidden = (size_t[]){8}, .n_hidden = 1, .last_scale = 0.5};
    nf_flow *f[] = {nf_iaf(2, &small), nf_planar(2), nf_realnvp(2, &small)};
    nf_model *m = bind(nf_pushforward(nf_diagonal_normal(2), nf_chain(f, 3)), 0.2);
    const size_t n = nf_model_shape(m)->n_params;
    nf_real *first = reals(n), *g = reals(n);
    for (size_t k = 0; k < 8; k++) {
        nf_target *t = nf_target_callback(2, waves, &limit, k < 4 ? NF_THREADSAFE : NF_SERIAL);
        nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = 1003, .gradient = NF_GRADIENT_STL});
        nf_workspace *ws = nf_workspace_new(k % 4 + 1);
        nf_step_report r;
        cr_assert_eq(nf_objective_gradient(o, ws, 12, 3, &r, k ? g : first), NF_OK);
        cr_assert_gt(r.rejected, 10);
        if (k)
            same_numbers(n, g, first, "gradient");
        nf_workspace_free(ws);
        nf_objective_free(o);
        nf_target_free(t);
    }
    free(first), free(g);
    nf_model_free(m);
}

static nf_objective *stl_of(nf_model *m, const void *target)
{
    return nf_elbo(m, *(nf_target *const *)target, &(nf_elbo_options){.draws = 40, .gradient = NF_GRADIENT_STL});
}

Test(stl, failing_allocations)
{
    const nf_recipe_options small = {.n_layers = 2, .hidden = (size_t[]){5}, .n_hidden = 1};
    nf_flow *f[] = {nf_blocks((nf_flow *[]){nf_affine(1), nf_planar(1)}, 2), nf_invert(nf_maf(2, &small))};
    nf_model *m = bind(nf_pushforward(nf_diagonal_normal(2), nf_chain(f, 2)), 0.2);
    nf_target *t = nf_target_callback(2, waves, NULL, NF_THREADSAFE);
    nf_real *g = reals(nf_model_shape(m)->n_params);
    cr_assert_geq(fail_each_of_a_step(fail_alloc_after, stl_of, m, &t, g), 4);
    cr_assert_geq(fail_each_of_a_step(fail_arena_once, stl_of, m, &t, g), 4);
    free(g);
    nf_target_free(t);
    nf_model_free(m);
}

/* A distribution that cannot be scored has no such gradient. */
static nf_status only_sample(const nf_object *o, const nf_pass *p, nf_real *x, double *log_q, void **saved)
{
    (void)o, (void)log_q, (void)saved;
    nf_noise_normal(&p->noise, 2, p->n, p->ld, x);
    return NF_OK;
}
static nf_status no_gradient(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *gx,
                             const nf_real *g_log_q, const nf_grad *g)
{
    (void)o, (void)p, (void)x, (void)saved, (void)gx, (void)g_log_q, (void)g;
    return NF_OK;
}

Test(stl, refusals)
{
    static const nf_dist_type type = {
        .abi = sizeof type, .part = {.name = "deaf"}, .sample = only_sample, .sample_vjp = no_gradient};
    nf_model *m = nf_model_of_dist(
        nf_pushforward(nf_dist_new(&type, &(nf_shape){.dim_out = 2}, NULL, NULL, 0), nf_affine(2)), NULL);
    nf_target *t = nf_target_callback(2, waves, NULL, NF_THREADSAFE);
    nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.gradient = NF_GRADIENT_STL});
    nf_real g[4];
    expect(nf_objective_gradient(o, NULL, 1, 1, NULL, g), NF_EUNSUPPORTED, "distribution `deaf` cannot score");
    nf_objective_free(o);
    cr_assert_null(nf_elbo(m, t, &(nf_elbo_options){.gradient = (nf_gradient)7}));
    expect(nf_error_status(), NF_EARG, "nf_elbo: gradient is 7");
    nf_target_free(t);
    nf_model_free(m);
}
