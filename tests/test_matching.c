/* Flow matching: the loss beside one that is computed row by row from its formula, its gradient, its least value where
   the best field is known, what training with it reaches, optimal coupling, and what is refused. */
#include "base/memory.h"
#include "data/data.h"
#include "density/assignment.h"
#include "fail_step.h"
#include "fragile.h"
#include "numbers.h"
#include "objective_fixture.h"

enum { DIM = 2, ROWS = 203, HIDDEN = 6, NET = (DIM + 1) * HIDDEN + HIDDEN + HIDDEN * DIM + DIM };
static const double end = 1.7;

static nf_net *field_net(size_t n_ctx)
{
    const size_t hidden[] = {HIDDEN};
    return nf_mlp(DIM + 1, DIM, n_ctx, &(nf_mlp_options){.hidden = hidden, .n_hidden = 1, .activation = NF_TANH});
}

static nf_flow *continuous(size_t n_ctx)
{
    return nf_continuous(field_net(n_ctx), &(nf_continuous_options){.end = end});
}

/* ---- the assignment ---- */

/* The least sum over all permutations, by trying them all. */
static double least_cost(size_t n, const double *cost, size_t row, unsigned taken)
{
    double least = row == n ? 0 : INFINITY;
    for (size_t j = 0; j < n && row < n; j++)
        if (!(taken & 1u << j))
            least = fmin(least, cost[row * n + j] + least_cost(n, cost, row + 1, taken | 1u << j));
    return least;
}

/* Each column is taken once, the prices are feasible, and their sum is the cost: no other assignment is cheaper.
   Returns the cost. */
static double check_assignment(const nfi_assignment *a)
{
    const size_t n = a->n;
    double cost = 0, prices = 0, size = 0;
    for (size_t i = 0; i < n * n; i++)
        size = fmax(size, fabs(a->cost[i]));
    for (size_t i = 0; i < n; i++) {
        cr_assert_lt(a->column[i], n);
        cr_assert_eq(a->row[a->column[i]], i);
        cost += a->cost[i * n + a->column[i]];
        prices += a->u[i] + a->v[i];
        for (size_t j = 0; j < n; j++)
            cr_assert(a->u[i] + a->v[j] <= a->cost[i * n + j] + 1e-12 * size, "%zu, %zu", i, j);
    }
    cr_assert_float_eq(cost, prices, 1e-11 * size * (double)n);
    return cost;
}

static double number(uint64_t seed, size_t i)
{
    nf_real u;
    nf_noise_uniform(&(nf_noise){.seed = seed, .first_sample = i}, 1, 1, 1, &u);
    return (double)u;
}

Test(assignment, against_all_permutations)
{
    for (size_t n = 1; n <= 7; n++) {
        nfi_assignment a;
        cr_assert_eq(nfi_assignment_begin(&a, n), NF_OK);
        for (uint64_t seed = 0; seed < (NFLOW_THIN ? 20 : 200); seed++) {
            for (size_t i = 0; i < n * n; i++) {
                const double u = number(seed, i);
                a.cost[i] = seed % 4 == 0 ? floor(3 * u) : seed % 4 == 1 ? 1e6 * (u - 0.5) : u * u * u;
            }
            nfi_assignment_solve(&a);
            const double least = least_cost(n, a.cost, 0, 0);
            cr_assert_float_eq(check_assignment(&a), least, 1e-12 * (1 + fabs(least)), "n %zu, seed %zu", n,
                               (size_t)seed);
        }
        nfi_assignment_end(&a);
    }
}

/* Points of the plane, some of which coincide; then equal costs, then a diagonal that is the worst choice. */
Test(assignment, prices_prove_it_best)
{
    enum { N = 200 };
    nfi_assignment a;
    cr_assert_eq(nfi_assignment_begin(&a, N), NF_OK);
    for (uint64_t seed = 1; seed < 4; seed++) {
        for (size_t i = 0; i < N * N; i++) {
            const double x = number(seed, i / N) - floor(4 * number(seed + 10, i % N)) / 4,
                         y = number(seed + 20, i / N) - floor(4 * number(seed + 30, i % N)) / 4;
            a.cost[i] = x * x + y * y;
        }
        nfi_assignment_solve(&a);
        check_assignment(&a);
        size_t first[N];
        memcpy(first, a.column, sizeof first);
        nfi_assignment_solve(&a);
        cr_assert_arr_eq(first, a.column, sizeof first, "a function of the costs alone");
    }
    for (size_t i = 0; i < N * N; i++)
        a.cost[i] = 2.385;
    nfi_assignment_solve(&a);
    cr_assert_float_eq(check_assignment(&a), N * 2.385, 1e-9);
    for (size_t i = 0; i < N * N; i++)
        a.cost[i] = (double)((i / N + 1) * (i % N + 1)); /* least if the largest meets the smallest */
    nfi_assignment_solve(&a);
    check_assignment(&a);
    for (size_t i = 0; i < N; i++)
        cr_assert_eq(a.column[i], N - 1 - i);
    nfi_assignment_end(&a);
    cr_assert_eq(nfi_assignment_begin(&a, SIZE_MAX / 4), NF_ENOMEM);
}

/* ---- the loss from its formula ---- */

/* Where the continuous flow may stand. */
enum { PLAIN, INVERTED, LAYERS, NESTED, CONTEXT, GIVEN, PLACES };
static const char *const place_name[PLACES] = {"plain", "inverted", "layers", "nested", "context", "given"};
static const uint32_t base_site[PLACES] = {1, 1, 1, 3, 1, 2};
static const size_t net_at[PLACES] = {0, 0, 2 * DIM, 4 * DIM, 0, 6 * DIM};

static bool reads_context(int place)
{
    return place == CONTEXT || place == GIVEN;
}

static nf_model *model_at(int place)
{
    nf_dist *base = nf_normal(DIM), *d = NULL;
    if (place == PLAIN)
        d = nf_pushforward(base, continuous(0));
    else if (place == INVERTED)
        d = nf_pushforward(base, nf_invert(continuous(0)));
    else if (place == LAYERS)
        d = nf_pushforward(base, nf_chain((nf_flow *[]){nf_affine(DIM), continuous(0), nf_invert(nf_affine(DIM))}, 3));
    else if (place == CONTEXT)
        d = nf_pushforward(base, nf_on_context(continuous(1), 2, 1));
    else if (place == GIVEN) {
        nf_flow *f[] = {nf_on_context(continuous(1), 2, 1), nf_amortized(nf_affine(DIM), nf_mlp(2, 2 * DIM, 0, NULL))};
        nf_dist_free(base);
        d = nf_pushforward(nf_conditional_normal(DIM, nf_mlp(2, 2 * DIM, 0, NULL)), nf_chain(f, 2));
    } else
        d = nf_pushforward(nf_pushforward(nf_pushforward(base, nf_affine(DIM)),
                                          nf_invert(nf_chain((nf_flow *[]){nf_affine(DIM), continuous(0)}, 2))),
                           nf_affine(DIM));
    return stir(nf_model_of_dist(d, &(nf_model_options){.seed = 5}), 0.3);
}

/* An affine layer's y, or x, for one row. */
static void affine(const nf_real *theta, bool back, double *x)
{
    for (size_t r = 0; r < DIM; r++) {
        const double m = (double)theta[r], s = exp((double)theta[DIM + r]);
        x[r] = back ? (x[r] - m) / s : m + s * x[r];
    }
}

typedef struct points {
    nf_real x[ROWS * DIM], ctx[ROWS * 2];
    double weight[ROWS];
} points;

static const points *make_points(void)
{
    static points p;
    for (size_t i = 0; i < ROWS; i++) {
        const double t = (double)i, u = sin(3.3 * t + 0.2), v = cos(5.1 * t) * sin(1.9 * t);
        p.x[i * DIM] = (nf_real)(1.7 * u + 0.4);
        p.x[i * DIM + 1] = (nf_real)(0.5 * u * u + 0.6 * v - 0.3);
        p.ctx[2 * i] = (nf_real)cos(0.77 * t);
        p.ctx[2 * i + 1] = (nf_real)(u + 0.2 * v);
        p.weight[i] = (double)(i % 4) * 0.5;
    }
    return &p;
}

static nf_data data_for(int place, bool weights)
{
    const points *p = make_points();
    nf_data d = {.n = ROWS, .dim = DIM, .x = p->x, .weight = weights ? p->weight : NULL};
    if (reads_context(place)) {
        d.n_ctx = 2;
        d.ctx = p->ctx;
    }
    return d;
}

/* The draw and the row of sample i, at the two ends of the field. */
static void ends_of(int place, const nf_real *theta, const nf_data *d, size_t row, const nf_noise *named, double *x0,
                    double *x1)
{
    nf_noise noise = *named;
    nf_real z[DIM];
    noise.site = base_site[place];
    nf_noise_normal(&noise, DIM, 1, 1, z);
    for (size_t r = 0; r < DIM; r++) {
        x0[r] = (double)z[r];
        x1[r] = (double)d->x[row * DIM + r];
    }
    if (place == LAYERS || place == NESTED)
        affine(theta, false, x0);
    if (place == LAYERS)
        affine(theta + 2 * DIM + NET, false, x1);
    if (place == NESTED) {
        affine(theta + 4 * DIM + NET, true, x1);
        affine(theta + 2 * DIM, false, x1);
    }
    for (int after = 0; after < 2 && place == GIVEN; after++) { /* m and log s are affine in the context */
        const nf_real *w = theta + (after ? 6 * DIM + NET + HIDDEN : 0), *c = d->ctx + 2 * row;
        nf_real own[2 * DIM];
        for (size_t k = 0; k < 2 * DIM; k++)
            own[k] = w[2 * k] * c[0] + w[2 * k + 1] * c[1] + w[4 * DIM + k];
        affine(own, after, after ? x1 : x0);
    }
}

/* Of all orders of the draws, the one with the least sum of squared distances, as a sum and in place. */
static double best_order(size_t n, double (*x0)[DIM], double (*x1)[DIM], size_t at, double (*best)[DIM])
{
    double least = INFINITY, sum = 0;
    if (at == n) {
        for (size_t i = 0; i < n; i++)
            for (size_t r = 0; r < DIM; r++)
                sum += pow(x1[i][r] - x0[i][r], 2);
        return sum;
    }
    for (size_t k = at; k < n; k++) {
        double tried[7][DIM], found[7][DIM];
        memcpy(tried, x0, n * sizeof *tried);
        memcpy(tried[at], x0[k], sizeof *tried);
        memcpy(tried[k], x0[at], sizeof *tried);
        memcpy(found, tried, sizeof tried);
        const double cost = best_order(n, tried, x1, at + 1, found);
        if (cost < least) {
            least = cost;
            memcpy(best, found, n * sizeof *best);
        }
    }
    return least;
}

/* Loss and term of a step, from the formula. */
static void by_hand(nf_model *m, int place, const nf_data *d, const nf_matching_options *q, uint64_t seed,
                    uint64_t step, double *loss, double *velocity)
{
    static double x0[ROWS][DIM], x1[ROWS][DIM];
    const nf_real *theta = nf_model_theta(m);
    nf_model *net = nf_model_of_net(field_net(reads_context(place)), NULL);
    memcpy(nf_model_theta(net), theta + net_at[place], nf_model_shape(net)->n_params * sizeof *theta);
    cr_assert_eq(nf_model_update(net, NF_EVAL), NF_OK);
    nf_minibatches *b = nf_minibatches_new(d, q->batch);
    cr_assert_eq(nf_minibatches_begin(b, seed, step), NF_OK);
    const size_t n = nf_minibatches_batch(b);
    const double left = 1 - q->s_min;
    double weights = 0;
    for (size_t i = 0; i < ROWS; i++)
        weights += d->weight ? d->weight[i] / ROWS : 1.0 / ROWS;
    for (size_t i = 0; i < n; i++) {
        const nf_noise noise = {.seed = seed, .step = step, .first_sample = i};
        ends_of(place, theta, d, nf_minibatches_row(b, i), &noise, x0[i], x1[i]);
    }
    if (q->coupling == NF_COUPLING_OPTIMAL)
        best_order(n, x0, x1, 0, x0);
    *loss = *velocity = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t row = nf_minibatches_row(b, i);
        const nf_noise noise = {.seed = seed, .step = step, .first_sample = i, .site = NFI_TIME_SITE};
        nf_real u, z[DIM + 1], f[DIM];
        nf_noise_uniform(&noise, 1, 1, 1, &u);
        const double a = ((double)nf_noise_permuted(&noise, n, i) + (double)u) / (double)n,
                     sign = place == INVERTED || place == NESTED ? -1 : 1, w = d->weight ? d->weight[row] : 1;
        for (size_t r = 0; r < DIM; r++)
            z[r] = (nf_real)((1 - left * a) * x0[i][r] + a * x1[i][r]);
        z[DIM] = (nf_real)(end * (sign > 0 ? a : 1 - a));
        cr_assert_eq(nf_evaluate(net, NULL, NULL, 1, z, reads_context(place) ? d->ctx + row * 2 + 1 : NULL, f), NF_OK);
        for (size_t r = 0; r < DIM; r++) {
            const double v = sign * (x1[i][r] - left * x0[i][r]) / end;
            *loss += w * pow((double)f[r] - v, 2) / ((double)n * weights);
            *velocity += w * v * v / ((double)n * weights);
        }
    }
    nf_minibatches_free(b);
    nf_model_free(net);
}

static nf_objective *matching(nf_model *m, const nf_data *d, const nf_matching_options *q)
{
    nf_objective *o = nf_flow_matching(m, d, q);
    cr_assert_not_null(o, "%s", nf_error_message());
    return o;
}

/* The net's gradient beside central differences, and exact zeros everywhere else. */
static void check_net_gradient(nf_model *m, nf_objective *o, size_t first, size_t n, const char *what)
{
    const size_t all = nf_model_shape(m)->n_params;
    nf_real *g = reals(all), *theta = nf_model_theta(m);
    nf_step_report r;
    double size = 0;
    cr_assert_eq(nf_objective_gradient(o, NULL, 41, 5, &r, g), NF_OK, "%s", nf_error_message());
    cr_assert_float_eq(r.loss, value(o, 41, 5).loss, rounding * (1 + r.loss));
    for (size_t i = 0; i < all; i++) {
        if (i < first || i >= first + n) {
            cr_assert_eq(g[i], 0, "%s: parameter %zu is not the net's", what, i);
            continue;
        }
        const nf_real was = theta[i];
        double loss[2];
        for (int side = 0; side < 2; side++) {
            theta[i] = side ? was + RADIUS : was - RADIUS;
            cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
            loss[side] = value(o, 41, 5).loss;
        }
        theta[i] = was;
        const double central = (loss[1] - loss[0]) / ((double)(was + RADIUS) - (double)(was - RADIUS));
        near((double)g[i], central, difference, what, i);
        size += (double)g[i] * (double)g[i];
    }
    cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
    cr_assert(size > 1e-3, "%s", what);
    free(g);
}

Test(matching, loss_and_gradient)
{
    for (int place = 0; place < PLACES; place++) {
        nf_model *m = model_at(place);
        const size_t n_net = NET + (reads_context(place) ? HIDDEN : 0);
        for (int kind = 0; kind < 5; kind++) { /* plain, s_min, weights, whole data, optimal coupling */
            if (reads_context(place) && kind == 4)
                continue;
            const nf_data d = data_for(place, kind == 2);
            const nf_matching_options q = {.batch = kind == 3   ? ROWS
                                                    : kind == 4 ? 6
                                                                : 77,
                                           .s_min = kind == 1 || kind == 4 ? 0.3 : 0,
                                           .coupling = kind == 4 ? NF_COUPLING_OPTIMAL : NF_COUPLING_INDEPENDENT};
            nf_objective *o = matching(m, &d, &q);
            double loss, velocity;
            by_hand(m, place, &d, &q, 41, 5, &loss, &velocity);
            const nf_step_report r = value(o, 41, 5);
            near(r.loss, loss, 100 * rounding, place_name[place], (size_t)kind);
            near(r.term[0], velocity, 100 * rounding, place_name[place], (size_t)kind);
            cr_assert(fabs(value(o, 41, 6).loss - loss) > 1e-3 && fabs(value(o, 42, 5).loss - loss) > 1e-3);
            check_net_gradient(m, o, net_at[place], n_net, place_name[place]);
            nf_objective_free(o);
        }
        nf_model_free(m);
    }
}

/* A row of weight 0 does not count, and neither does a common factor of all weights. */
Test(matching, weights)
{
    nf_model *m = model_at(PLAIN);
    nf_data d = data_for(PLAIN, false);
    static double w[ROWS], doubled[ROWS];
    static nf_real x[ROWS * DIM];
    memcpy(x, d.x, sizeof x);
    for (size_t i = 0; i < ROWS; i++) {
        w[i] = i % 3 ? 1 : 0;
        doubled[i] = 2.5 * w[i];
    }
    d.weight = w;
    nf_objective *o = matching(m, &d, &(nf_matching_options){.batch = ROWS});
    const double loss = value(o, 1, 1).loss;
    nf_objective_free(o);
    for (size_t i = 0; i < ROWS; i += 3)
        x[i * DIM] = 1000;
    d.x = x;
    d.weight = doubled;
    o = matching(m, &d, &(nf_matching_options){.batch = ROWS});
    cr_assert_float_eq(value(o, 1, 1).loss, loss, 10 * rounding * loss);
    nf_objective_free(o);
    nf_model_free(m);
}

/* Of the times in by_hand: every stratum of a batch has one, each sample's own are uniform over the steps, and the mean
   over a batch has the variance of strata, a share 1 / N^2 of that of independent times. */
Test(matching, times_are_stratified)
{
    enum { N = 32, STEPS = 400 };
    double mean = 0, square = 0, of_first = 0;
    for (uint64_t step = 0; step < STEPS; step++) {
        double sum = 0;
        unsigned long seen = 0;
        for (size_t i = 0; i < N; i++) {
            const nf_noise noise = {.seed = 3, .step = step, .first_sample = i, .site = NFI_TIME_SITE};
            nf_real u;
            nf_noise_uniform(&noise, 1, 1, 1, &u);
            const double a = ((double)nf_noise_permuted(&noise, N, i) + (double)u) / N;
            seen |= 1ul << (size_t)(a * N);
            sum += a / N;
            of_first += i ? 0 : a / STEPS;
        }
        cr_assert_eq(seen, 0xfffffffful);
        mean += sum / STEPS;
        square += pow(sum - 0.5, 2) / STEPS;
    }
    const double independent = 1 / (12.0 * N); /* the variance that the mean would have */
    cr_assert_lt(square, 3 * independent / (N * N));
    cr_assert_float_eq(mean, 0.5, 4 * sqrt(independent / (N * N) / STEPS));
    cr_assert_float_eq(of_first, 0.5, 4 / sqrt(12.0 * STEPS), "a sample's own times are uniform");
}

/* ---- the best field, where it is known ---- */

/* Rows from N(mu, L L^T), by their numbers. */
static const double mu[DIM] = {0.7, -1.1}, chol[DIM][DIM] = {{1.3, 0}, {-0.8, 0.4}};

static int normal_rows(void *user, size_t count, const size_t *rows, nf_real *x, nf_real *ctx)
{
    (void)ctx;
    for (size_t i = 0; i < count; i++) {
        nf_real z[DIM];
        nf_noise_normal(&(nf_noise){.seed = 99, .first_sample = rows[i]}, DIM, 1, 1, z);
        const double center = user ? *(const double *)user : 0;
        for (size_t r = 0; r < DIM; r++)
            x[i * DIM + r] = (nf_real)(center + mu[r] + chol[r][0] * (double)z[0] + chol[r][1] * (double)z[1]);
    }
    return 0;
}

static const nf_source normal_source = {.read = normal_rows, .thread_safe = true};

static nf_data normal_data(void)
{
    return (nf_data){.n = (size_t)1 << 40, .dim = DIM, .source = &normal_source};
}

/* The conditional mean of v = (x1 - l x0) / T given z = (1 - l a) x0 + a x1, plus theta. With S = L L^T,

       f = (mu + (a S - l (1 - l a)) ((1 - l a)^2 + a^2 S)^-1 (z - a mu)) / T. */
typedef struct ideal {
    double left, end;
    bool backward;
} ideal;

static nf_status ideal_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    (void)saved;
    const ideal *q = nf_self(o);
    const double s00 = chol[0][0] * chol[0][0], s01 = chol[0][0] * chol[1][0],
                 s11 = chol[1][0] * chol[1][0] + chol[1][1] * chol[1][1];
    for (size_t s = 0; s < p->ld; s++) {
        const double t = (double)x[DIM * p->ld + s] / q->end, a = q->backward ? 1 - t : t, rest = 1 - q->left * a;
        const double v00 = rest * rest + a * a * s00, v01 = a * a * s01, v11 = rest * rest + a * a * s11,
                     det = v00 * v11 - v01 * v01, d0 = (double)x[s] - a * mu[0], d1 = (double)x[p->ld + s] - a * mu[1];
        const double w0 = (v11 * d0 - v01 * d1) / det, w1 = (v00 * d1 - v01 * d0) / det;
        const double f0 = mu[0] + a * (s00 * w0 + s01 * w1) - q->left * rest * w0,
                     f1 = mu[1] + a * (s01 * w0 + s11 * w1) - q->left * rest * w1, sign = q->backward ? -1 : 1;
        y[s] = (nf_real)(sign * f0 / q->end) + p->theta[0];
        y[p->ld + s] = (nf_real)(sign * f1 / q->end) + p->theta[1];
    }
    return NF_OK;
}

static nf_status ideal_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                           const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    (void)o, (void)x, (void)y, (void)saved, (void)gx;
    for (size_t i = 0; i < DIM * p->ld && g->theta; i++)
        g->theta[i / p->ld] += gy[i];
    return NF_OK;
}

static nf_status no_tangent(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                            size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent)
{
    (void)o, (void)p, (void)x, (void)y, (void)saved, (void)k, (void)dx, (void)dy, (void)saved_tangent;
    return nf_error(NF_EUNSUPPORTED, "nobody asks for this tangent");
}

static nf_status no_tangent_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                                size_t k, const nf_real *dx, const nf_real *dy, void *saved_tangent, const nf_real *gy,
                                const nf_real *gdy, nf_real *gx, nf_real *gdx, const nf_grad *g)
{
    (void)dy, (void)gy, (void)gdy, (void)gx, (void)gdx, (void)g;
    return no_tangent(o, p, x, y, saved, k, dx, NULL, saved_tangent);
}

static const nf_net_type ideal_type = {.abi = sizeof(nf_net_type),
                                       .part = {.name = "ideal"},
                                       .apply = ideal_apply,
                                       .vjp = ideal_vjp,
                                       .tangent = no_tangent,
                                       .tangent_vjp = no_tangent_vjp};

static nf_model *ideal_model(ideal *q)
{
    nf_net *net = nf_net_new(&ideal_type, &(nf_shape){.dim_in = DIM + 1, .dim_out = DIM, .n_params = DIM}, q, NULL, 0);
    nf_flow *flow = nf_continuous(net, &(nf_continuous_options){.end = q->end});
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(DIM), q->backward ? nf_invert(flow) : flow), NULL);
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

/* The least loss is the mean variance of v given z. For one feature of deviation s, with l = 1 - s_min, it is

       int_0^1 s^2 / ((1 - l a)^2 + a^2 s^2) da / T^2 = s (atan((l^2 + s^2 - l) / s) + atan(l / s)) / T^2,

   s pi / 2 for l = T = 1; features of correlated data add up by the eigenvalues s^2 of S. */
static double least_loss(const ideal *q)
{
    const double s00 = chol[0][0] * chol[0][0], s01 = chol[0][0] * chol[1][0],
                 s11 = chol[1][0] * chol[1][0] + chol[1][1] * chol[1][1], half = (s00 + s11) / 2,
                 root = sqrt(half * half - (s00 * s11 - s01 * s01)), l = q->left;
    double sum = 0;
    for (int k = 0; k < 2; k++) {
        const double s = sqrt(k ? half + root : half - root);
        sum += s * (atan((l * l + s * s - l) / s) + atan(l / s));
    }
    return sum / (q->end * q->end);
}

/* Mean and standard error over independent steps, of the loss and of the gradient in theta. */
Test(matching, best_field_has_the_least_loss)
{
    ideal kinds[] = {{1, 1, false}, {1, 2.5, false}, {0.75, 1.6, false}, {1, 2.5, true}};
    const size_t steps = NFLOW_THIN ? 60 : 400;
    for (size_t k = 0; k < 4; k++) {
        nf_model *m = ideal_model(&kinds[k]);
        const nf_data d = normal_data();
        nf_objective *o = matching(m, &d, &(nf_matching_options){.batch = 256, .s_min = 1 - kinds[k].left});
        double sum[3] = {0}, square[3] = {0};
        for (uint64_t step = 0; step < steps; step++) {
            nf_real g[DIM];
            nf_step_report r;
            cr_assert_eq(nf_objective_gradient(o, NULL, 8, step, &r, g), NF_OK, "%s", nf_error_message());
            const double all[3] = {r.loss, (double)g[0], (double)g[1]};
            for (int i = 0; i < 3; i++) {
                sum[i] += all[i] / (double)steps;
                square[i] += all[i] * all[i] / (double)steps;
            }
        }
        for (int i = 0; i < 3; i++) {
            const double error = sqrt((square[i] - sum[i] * sum[i]) / (double)(steps - 1)),
                         wanted = i ? 0 : least_loss(&kinds[k]);
            cr_assert_float_eq(sum[i], wanted, 4 * error, "field %zu, %d: %g +- %g, not %g", k, i, sum[i], error,
                               wanted);
            cr_assert_lt(error, 0.5 / sqrt((double)steps));
        }
        /* a field beside it has more, by the square of what is between them */
        nf_model_theta(m)[0] = NF_R(0.3);
        nf_model_theta(m)[1] = NF_R(-0.4);
        cr_assert_eq(nf_model_update(m, NF_EVAL), NF_OK);
        double more = 0;
        for (uint64_t step = 0; step < steps; step++)
            more += value(o, 8, step).loss / (double)steps;
        cr_assert_float_eq(more - sum[0], 0.25 + 0.3 * sum[1] - 0.4 * sum[2], 1e-4);
        nf_objective_free(o);
        nf_model_free(m);
    }
}

/* ---- training ---- */

static nf_net *trained_net(size_t n_ctx)
{
    const size_t hidden[] = {32, 32};
    return nf_squash_mlp(DIM + 1, DIM, n_ctx, &(nf_mlp_options){.hidden = hidden, .n_hidden = 2});
}

static nf_model *trainable(size_t n_ctx, uint64_t seed)
{
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(DIM), nf_continuous(trained_net(n_ctx), NULL)),
                                   &(nf_model_options){.seed = seed});
    cr_assert_not_null(m, "%s", nf_error_message());
    return m;
}

static void train(nf_model *m, const nf_data *d, const nf_matching_options *q, uint64_t steps)
{
    nf_objective *o = matching(m, d, q);
    nf_fit_options options = {.steps = steps, .rate = 5e-3, .threads = 1, .seed = 4};
    options.schedule = (nf_schedule){.kind = NF_COSINE, .from = 1, .to = 0.01};
    cr_assert_eq(nf_fit(o, &options, NULL), NF_OK, "%s", nf_error_message());
    nf_objective_free(o);
}

/* The divergence of what was learnt from the truth, on other rows; for both couplings. */
Test(matching, training_reaches_the_entropy)
{
    enum { N = 1000 };
    static nf_real x[N * DIM];
    static double log_q[N];
    if (NFLOW_THIN)
        return;
    for (int coupling = 0; coupling < 2; coupling++) {
        nf_model *m = trainable(0, 6);
        const nf_data d = normal_data();
        train(m, &d, &(nf_matching_options){.batch = 64, .coupling = (nf_matching_coupling)coupling}, 1500);
        size_t rows[N];
        for (size_t i = 0; i < N; i++)
            rows[i] = ((size_t)1 << 41) + i;
        normal_rows(NULL, N, rows, x, NULL);
        cr_assert_eq(nf_log_prob(m, NULL, NULL, N, x, NULL, log_q), NF_OK, "%s", nf_error_message());
        double divergence = 0;
        for (size_t i = 0; i < N; i++) {
            const double u = ((double)x[i * DIM] - mu[0]) / chol[0][0],
                         v = ((double)x[i * DIM + 1] - mu[1] - chol[1][0] * u) / chol[1][1];
            divergence += (-0.5 * (u * u + v * v) - log(2 * acos(-1.0) * chol[0][0] * chol[1][1]) - log_q[i]) / N;
        }
        cr_assert_lt(fabs(divergence), 0.02, "coupling %d: %g", coupling, divergence);
        nf_model_free(m);
    }
}

/* Given c, x is normal about (c, c^2) with deviation 0.3: a net that overlooked c would be far off. */
Test(matching, contexts_train_a_conditional_density)
{
    enum { N = 2000 };
    static nf_real x[N * DIM], c[N];
    static double log_q[N];
    if (NFLOW_THIN)
        return;
    draw(51, N * DIM, 0.3, x);
    draw(52, N, 1, c);
    for (size_t i = 0; i < N; i++) {
        x[i * DIM] += c[i];
        x[i * DIM + 1] += c[i] * c[i];
    }
    nf_model *m = trainable(1, 7);
    const nf_data d = {.n = N / 2, .dim = DIM, .x = x, .n_ctx = 1, .ctx = c};
    train(m, &d, &(nf_matching_options){.batch = 128}, 2500);
    cr_assert_eq(nf_log_prob(m, NULL, NULL, N / 2, x + N / 2 * DIM, c + N / 2, log_q), NF_OK, "%s", nf_error_message());
    double divergence = 0;
    for (size_t i = 0; i < N / 2; i++) {
        const nf_real *at = x + (N / 2 + i) * DIM, given = c[N / 2 + i];
        const double u = (double)(at[0] - given) / 0.3, v = (double)(at[1] - given * given) / 0.3;
        divergence += (-0.5 * (u * u + v * v) - log(2 * acos(-1.0) * 0.09) - log_q[i]) / (N / 2);
    }
    cr_assert_lt(fabs(divergence), 0.1, "%g", divergence);
    nf_model_free(m);
}

/* How far a single step of Euler's method misses the ends of the paths, beside the length of the paths. */
static double bend(nf_model *m)
{
    enum { N = 200 };
    static nf_real z[(DIM + 1) * N], y[DIM * N], f[DIM * N];
    nf_model *net = nf_model_of_net(trained_net(0), NULL);
    memcpy(nf_model_theta(net), nf_model_theta(m), nf_model_shape(m)->n_params * sizeof *z);
    cr_assert_eq(nf_model_update(net, NF_EVAL), NF_OK);
    cr_assert_eq(nf_sample(m, NULL, &(nf_noise){.seed = 9}, N, NULL, y, NULL), NF_OK);
    for (size_t i = 0; i < N; i++) {
        nf_noise_normal(&(nf_noise){.seed = 9, .first_sample = i, .site = 1}, DIM, 1, 1, z + i * (DIM + 1));
        z[i * (DIM + 1) + DIM] = 0;
    }
    cr_assert_eq(nf_evaluate(net, NULL, NULL, N, z, NULL, f), NF_OK);
    nf_model_free(net);
    double missed = 0, length = 0;
    for (size_t i = 0; i < DIM * N; i++) {
        const double way = (double)(y[i] - z[i / DIM * (DIM + 1) + i % DIM]);
        missed += pow(way - (double)f[i], 2);
        length += way * way;
    }
    return missed / length;
}

/* Four separate clusters. With the same draws and rows, optimal pairs are never further apart; what is left of the loss
   after training is a fraction, and the paths are straighter. */
Test(matching, optimal_coupling_straightens)
{
    enum { N = 1000 };
    static nf_real x[N * DIM];
    draw(53, N * DIM, 0.2, x);
    for (size_t i = 0; i < N; i++)
        x[i * DIM + (i & 1)] += i & 2 ? 2 : -2;
    const nf_data d = {.n = N, .dim = DIM, .x = x};
    double loss[2], bent[2];
    for (int coupling = 0; coupling < 2; coupling++) {
        const nf_matching_options q = {.batch = 64, .coupling = (nf_matching_coupling)coupling};
        nf_model *m = trainable(0, 8);
        if (!NFLOW_THIN)
            train(m, &d, &q, 1000);
        nf_objective *o = matching(m, &d, &q), *other = matching(m, &d, &(nf_matching_options){.batch = 64});
        loss[coupling] = 0;
        for (uint64_t step = 0; step < 20; step++) {
            const nf_step_report r = value(o, 3, step);
            loss[coupling] += r.loss / 20;
            if (coupling)
                cr_assert_lt(r.term[0], 0.9 * value(other, 3, step).term[0]);
        }
        bent[coupling] = bend(m);
        nf_objective_free(o);
        nf_objective_free(other);
        nf_model_free(m);
    }
    if (NFLOW_THIN)
        return;
    cr_assert_lt(loss[1], 0.2 * loss[0], "%g, not far below %g", loss[1], loss[0]);
    cr_assert_lt(bent[1], 0.2 * bent[0], "%g, not far below %g", bent[1], bent[0]);
}

/* ---- fits ---- */

/* What is trained is the net alone: a learnt base, the layers on both sides and running statistics keep every bit, and
   a layer that begins from data has begun before. */
Test(matching, only_the_net_is_trained)
{
    const nf_data d = data_for(PLAIN, false);
    nf_flow *f[] = {nf_affine(DIM), continuous(0), nf_batch_norm(DIM, NULL), nf_actnorm(DIM)};
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_diagonal_normal(DIM), nf_chain(f, 4)),
                                   &(nf_model_options){.seed = 3, .n_init = ROWS, .init_x = d.x});
    cr_assert_not_null(m, "%s", nf_error_message());
    const nf_shape *shape = nf_model_shape(m);
    const size_t first = 4 * DIM;
    nf_real *theta = reals(shape->n_params), *state = reals(shape->n_state);
    memcpy(theta, nf_model_theta(m), shape->n_params * sizeof *theta);
    memcpy(state, nf_model_state(m), shape->n_state * sizeof *state);
    nf_objective *o = matching(m, &d, NULL);
    cr_assert_eq(nf_objective_batch(o), 100);
    cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 20}, NULL), NF_OK, "%s", nf_error_message());
    size_t moved = 0;
    for (size_t i = 0; i < shape->n_params; i++) {
        const bool same = memcmp(theta + i, nf_model_theta(m) + i, sizeof *theta) == 0;
        cr_assert(same || (i >= first && i < first + NET), "%zu", i);
        moved += !same;
    }
    cr_assert_eq(moved, NET);
    cr_assert_arr_eq(state, nf_model_state(m), shape->n_state * sizeof *state);
    free(theta);
    free(state);
    nf_objective_free(o);
    nf_model_free(m);
}

/* A fit that is validated by the matching loss of rows that were held out: it keeps its best parameters. */
Test(matching, validation)
{
    nf_data d = data_for(PLAIN, false), held = d;
    d.n = 150;
    held.n = ROWS - d.n;
    held.x += d.n * DIM;
    nf_model *m = trainable(0, 2);
    nf_objective *o = matching(m, &d, &(nf_matching_options){.batch = 50}),
                 *validation = matching(m, &held, &(nf_matching_options){.batch = held.n});
    const double before = value(validation, 6, 0).loss;
    nf_fit_options options = {.steps = 200, .rate = 0.01, .seed = 6, .validation = validation, .validate_every = 20};
    nf_fit_report r;
    cr_assert_eq(nf_fit(o, &options, &r), NF_OK, "%s", nf_error_message());
    cr_assert_lt(r.best, before - 0.1);
    cr_assert_eq(r.best, value(validation, 6, 0).loss, "the same noise in every evaluation");
    cr_assert_eq(r.warnings, 0);
    cr_assert(isnan(r.worst_loss));
    nf_objective_free(o);
    nf_objective_free(validation);
    nf_model_free(m);
}

/* Dropout belongs to training: of the field's net it is drawn in a step with a gradient alone, and of a coupling before
   or after the field never. */
Test(matching, dropout_is_the_nets_alone)
{
    const nf_data d = data_for(PLAIN, false);
    const size_t hidden[] = {8};
    const nf_mlp_options drop = {.hidden = hidden, .n_hidden = 1, .dropout = 0.4};
    const unsigned char mask[DIM] = {1, 0};
    for (int where = 0; where < 3; where++) {
        nf_flow *f[3];
        for (int k = 0; k < 3; k++)
            f[k] = k == 1 ? where == 1 ? nf_continuous(nf_mlp(DIM + 1, DIM, 0, &drop), NULL) : continuous(0)
                          : nf_coupling(DIM, mask, nf_affine(1), nf_mlp(1, 2, 0, k == where ? &drop : NULL));
        nf_model *m = stir(nf_model_of_dist(nf_pushforward(nf_normal(DIM), nf_chain(f, 3)), NULL), 0.2);
        nf_objective *o = matching(m, &d, NULL);
        nf_step_report r;
        nf_real *g = reals(nf_model_shape(m)->n_params);
        cr_assert_eq(nf_objective_gradient(o, NULL, 2, 1, &r, g), NF_OK, "%s", nf_error_message());
        const double difference_of_modes = fabs(r.loss - value(o, 2, 1).loss);
        cr_assert(where == 1 ? difference_of_modes > 1e-3 : difference_of_modes < 10 * rounding * r.loss, "%d: %g",
                  where, difference_of_modes);
        free(g);
        nf_objective_free(o);
        nf_model_free(m);
    }
}

/* ---- the same bits ---- */

static nf_model *layered(void)
{
    nf_flow *f[] = {nf_affine(DIM), continuous(0), nf_lu_linear(DIM, 17)};
    return stir(nf_model_of_dist(nf_pushforward(nf_normal(DIM), nf_chain(f, 3)), &(nf_model_options){.seed = 5}), 0.3);
}

enum { LAYERED = 2 * DIM + NET + DIM * DIM + DIM };

Test(matching, same_bits_for_all_thread_counts)
{
    const nf_data d = data_for(PLAIN, false);
    const size_t threads[] = {1, 2, 3, 8};
    for (int coupling = 0; coupling < 2; coupling++) {
        nf_model *m = layered();
        nf_objective *o =
            matching(m, &d, &(nf_matching_options){.batch = 171, .coupling = (nf_matching_coupling)coupling});
        nf_real g[4][LAYERED] = {{0}};
        nf_step_report r[4];
        cr_assert_eq(nf_model_shape(m)->n_params, LAYERED);
        for (int k = 0; k < 4; k++) {
            nf_workspace *ws = nf_workspace_new(threads[k]);
            cr_assert_eq(nf_objective_gradient(o, ws, 3, 9, &r[k], g[k]), NF_OK, "%s", nf_error_message());
            cr_assert_arr_eq(g[k], g[0], sizeof g[0]);
            cr_assert_eq(r[k].loss, r[0].loss);
            cr_assert_eq(r[k].term[0], r[0].term[0]);
            nf_workspace_free(ws);
        }
        nf_objective_free(o);
        nf_model_free(m);
    }
}

/* The first of two ranks leaves its sums here, the second adds them to its own. */
typedef struct exchange {
    nf_real gradient[LAYERED + 64];
    double sums[64], maxima[8];
} exchange;

static nf_status all_reduce(void *user, const nf_reduction *r)
{
    exchange *x = user;
    cr_assert(r->n_gradient <= LAYERED + 64 && r->n_sums <= 64 && r->n_maxima <= 8);
    for (size_t i = 0; i < r->n_gradient; i++)
        x->gradient[i] = r->gradient[i] += x->gradient[i];
    for (size_t i = 0; i < r->n_sums; i++)
        x->sums[i] = r->sums[i] += x->sums[i];
    for (size_t i = 0; i < r->n_maxima; i++)
        x->maxima[i] = r->maxima[i] = fmax(r->maxima[i], x->maxima[i]);
    return NF_OK;
}

Test(matching, ranks_share_a_step)
{
    const nf_data d = data_for(PLAIN, false);
    for (int coupling = 0; coupling < 2; coupling++) {
        nf_model *m = layered();
        nf_objective *o =
            matching(m, &d, &(nf_matching_options){.batch = ROWS, .coupling = (nf_matching_coupling)coupling});
        nf_real alone[LAYERED], together[LAYERED];
        nf_step_report r[2];
        cr_assert_eq(nf_objective_gradient(o, NULL, 3, 9, &r[0], alone), NF_OK);
        exchange x = {.sums = {0}};
        for (size_t rank = 0; rank < 2; rank++) {
            const nf_ranks ranks = {.rank = rank, .n_ranks = 2, .all_reduce = all_reduce, .user = &x};
            cr_assert_eq(nf_objective_rank_gradient(o, NULL, &ranks, 3, 9, &r[1], together), NF_OK, "%s",
                         nf_error_message());
        }
        cr_assert_arr_eq(alone, together, sizeof alone);
        cr_assert_eq(r[0].loss, r[1].loss);
        nf_objective_free(o);
        nf_model_free(m);
    }
}

/* ---- rows without a result ---- */

/* A layer after the field fails for the rows with x_0 above a limit, one before it for such draws. The others' loss and
   gradient are those of a batch in which the rows that failed have no weight. */
Test(matching, rows_fail_alone)
{
    nf_data d = data_for(PLAIN, false);
    double weight[ROWS];
    size_t above = 0;
    for (size_t i = 0; i < ROWS; i++) {
        weight[i] = d.x[i * DIM] > 1;
        above += d.x[i * DIM] > 1;
        weight[i] = 1 - weight[i];
    }
    cr_assert(above > 20 && above < ROWS / 2);
    nf_real g[2][NET + 1];
    nf_step_report r[2];
    for (int k = 0; k < 2; k++) {
        nf_flow *f[] = {continuous(0), make_fragile(DIM, k ? INFINITY : 1, 0)};
        nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(DIM), nf_chain(f, 2)), &(nf_model_options){.seed = 3});
        d.weight = k ? weight : NULL;
        nf_objective *o = matching(m, &d, &(nf_matching_options){.batch = ROWS});
        cr_assert_eq(nf_objective_gradient(o, NULL, 3, 9, &r[k], g[k]), NF_OK);
        cr_assert_eq(r[k].failed, k ? 0 : above);
        nf_objective_free(o);
        nf_model_free(m);
    }
    near(r[0].loss, r[1].loss, 10 * rounding, "loss", 0);
    for (size_t i = 0; i <= NET; i++)
        near((double)g[0][i], (double)g[1][i], 100 * rounding, "gradient", i);
    d.weight = NULL;
    for (int kind = 0; kind < 4; kind++) { /* before or after the field, with both couplings */
        nf_flow *after[] = {continuous(0), make_fragile(DIM, 1, 0)},
                *before[] = {make_fragile(DIM, 1, 0), continuous(0)};
        nf_flow_free(kind & 1 ? after[0] : before[0]);
        nf_flow_free(kind & 1 ? after[1] : before[1]);
        nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(DIM), nf_chain(kind & 1 ? before : after, 2)), NULL);
        const nf_matching_options q = {.batch = ROWS, .coupling = kind & 2 ? NF_COUPLING_OPTIMAL : 0};
        nf_objective *o = matching(m, &d, &q);
        cr_assert_eq(nf_objective_gradient(o, NULL, 3, 9, &r[0], g[0]), NF_OK);
        cr_assert(kind & 1 ? r[0].failed > 10 && r[0].failed < 60 : r[0].failed == above, "%zu", r[0].failed);
        cr_assert(isfinite(r[0].loss) && all_finite(NET + 1, g[0]));
        nf_objective_free(o);
        nf_model_free(m);
    }
}

/* Rows that fail do not disturb the pairs of the others: they are near to every draw. */
Test(matching, pairs_beside_rows_that_fail)
{
    const nf_data d = data_for(PLAIN, false);
    nf_flow *f[] = {continuous(0), make_fragile(DIM, 1, 0)};
    nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(DIM), nf_chain(f, 2)), NULL);
    nf_objective *o = matching(m, &d, &(nf_matching_options){.batch = ROWS, .coupling = NF_COUPLING_OPTIMAL});
    nfi_assignment a;
    cr_assert_eq(nfi_assignment_begin(&a, ROWS), NF_OK);
    for (size_t i = 0; i < ROWS * ROWS; i++) {
        const nf_real *x = d.x + i / ROWS * DIM;
        nf_real z[DIM];
        nf_noise_normal(&(nf_noise){.seed = 3, .step = 9, .first_sample = i % ROWS, .site = 1}, DIM, 1, 1, z);
        for (size_t r = 0; r < DIM && !(x[0] > 1); r++)
            a.cost[i] += pow((double)x[r] - (double)z[r], 2);
    }
    nfi_assignment_solve(&a);
    const double cost = check_assignment(&a); /* rows that fail cost nothing */
    const nf_step_report r = value(o, 3, 9);
    near(r.term[0], cost / (end * end) / (double)(ROWS - r.failed), 100 * rounding, "velocity", 0);
    nfi_assignment_end(&a);
    nf_objective_free(o);
    nf_model_free(m);
}

Test(matching, all_rows_fail)
{
    const nf_data d = data_for(PLAIN, false);
    for (int coupling = 0; coupling < 2; coupling++) {
        nf_flow *f[] = {continuous(0), make_fragile(DIM, -1000, 0)};
        nf_model *m = nf_model_of_dist(nf_pushforward(nf_normal(DIM), nf_chain(f, 2)), NULL);
        nf_objective *o = matching(m, &d, &(nf_matching_options){.coupling = (nf_matching_coupling)coupling});
        nf_real g[NET + 1];
        nf_step_report r;
        cr_assert_eq(nf_objective_gradient(o, NULL, 3, 9, &r, g), NF_OK);
        cr_assert(r.failed == 100 && isnan(r.loss) && r.grad_norm == 0);
        cr_assert_eq(nf_fit(o, &(nf_fit_options){.steps = 200, .max_bad_steps = 5}, NULL), NF_ENOTFINITE);
        nf_objective_free(o);
        nf_model_free(m);
    }
}

static int broken_source(void *user, size_t count, const size_t *rows, nf_real *x, nf_real *ctx)
{
    (void)user, (void)count, (void)rows, (void)x, (void)ctx;
    return (int)nf_error(NF_EIO, "the disk is gone");
}

/* ---- what is refused ---- */

static void refused(nf_model *m, const nf_data *d, const nf_matching_options *q, nf_status status, const char *words)
{
    expect_none(nf_flow_matching(m, d, q), status, words);
}

static void refused_model(nf_model *m, nf_status status, const char *words)
{
    const nf_data d = data_for(PLAIN, false);
    cr_assert_not_null(m, "%s", nf_error_message());
    refused(m, &d, NULL, status, words);
    nf_model_free(m);
}

static nf_status no_score(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved)
{
    (void)o, (void)p, (void)x, (void)log_p, (void)saved;
    return nf_error(NF_EUNSUPPORTED, "nobody asks for this score");
}

static nf_model *pushed(nf_flow *f)
{
    return nf_model_of_dist(nf_pushforward(nf_normal(DIM), f), NULL);
}

Test(matching, arguments)
{
    nf_model *m = model_at(PLAIN), *with = model_at(CONTEXT);
    const nf_data d = data_for(PLAIN, false), c = data_for(CONTEXT, false), w = data_for(PLAIN, true);
    nf_data bad = w;
    refused(NULL, &d, NULL, NF_EARG, "nf_flow_matching: `model` is NULL");
    refused(m, NULL, NULL, NF_EARG, "nf_flow_matching: data is NULL");
    refused(m, &c, NULL, NF_EDIM, "2 columns and 2 of context, but the model 2 and 0");
    refused(with, &d, NULL, NF_EDIM, "2 columns and 0 of context, but the model 2 and 2");
    bad.n = 0;
    refused(m, &bad, NULL, NF_EARG, "nf_flow_matching: data has 0 rows");
    double negative[ROWS] = {0};
    negative[7] = -1;
    bad = d;
    bad.weight = negative;
    refused(m, &bad, NULL, NF_EARG, "nf_flow_matching: data->weight is -1 in row 7");
    refused(m, &d, &(nf_matching_options){.s_min = 1}, NF_EARG,
            "nf_flow_matching: `s_min` is 1, but must be in [0, 1)");
    refused(m, &d, &(nf_matching_options){.s_min = NAN}, NF_EARG, "s_min");
    refused(m, &d, &(nf_matching_options){.coupling = (nf_matching_coupling)2}, NF_EARG, "coupling");
    const nf_matching_options optimal = {.batch = 5000, .coupling = NF_COUPLING_OPTIMAL};
    refused(with, &c, &optimal, NF_EUNSUPPORTED, "with contexts, optimal coupling");
    refused(m, &w, &optimal, NF_EUNSUPPORTED, "with weights, optimal coupling");
    const nf_data many = normal_data();
    refused(m, &many, &optimal, NF_EARG, "a batch has 5000 rows, but optimal coupling takes at most 4096");
    nf_model_free(m);
    nf_model_free(with);
    refused_model(nf_model_of_flow(continuous(0), NULL), NF_EARG, "`continuous`, not of a distribution");
    refused_model(nf_model_of_dist(nf_normal(DIM), NULL), NF_EUNSUPPORTED,
                  "nf_flow_matching: the model, `normal`, has 0 continuous flows, but must have one");
    refused_model(pushed(nf_planar(DIM)), NF_EUNSUPPORTED, "`pushforward` with `planar`, has 0 continuous flows");
    refused_model(pushed(nf_chain((nf_flow *[]){continuous(0), nf_planar(DIM), continuous(0)}, 3)), NF_EUNSUPPORTED,
                  "`pushforward` with `chain`, has 2 continuous flows");
    nf_flow *small = nf_continuous(nf_mlp(2, 1, 0, NULL), NULL);
    refused_model(pushed(nf_blocks((nf_flow *[]){small, nf_affine(1)}, 2)), NF_EUNSUPPORTED,
                  "inside `blocks`, but may only be in pushforward, chain, invert and on_context");
    static const nf_dist_type mute = {.abi = sizeof(nf_dist_type), .part = {.name = "mute"}, .score = no_score};
    nf_dist *base = nf_dist_new(&mute, &(nf_shape){.dim_out = DIM}, NULL, NULL, 0);
    refused_model(nf_model_of_dist(nf_pushforward(base, continuous(0)), NULL), NF_EUNSUPPORTED,
                  "nf_flow_matching: the base, `mute`, cannot sample");
    const nf_source broken = {.read = broken_source};
    const nf_data gone = {.n = ROWS, .dim = DIM, .source = &broken};
    for (int coupling = 0; coupling < 2; coupling++) {
        m = model_at(PLAIN);
        nf_objective *o = matching(m, &gone, &(nf_matching_options){.coupling = (nf_matching_coupling)coupling});
        nf_step_report r;
        expect(nf_objective_value(o, NULL, 1, 1, &r), NF_EIO, "the disk is gone");
        nf_objective_free(o);
        nf_model_free(m);
    }
}

/* ---- memory ---- */

static nf_objective *independent_of(nf_model *m, const void *data)
{
    return nf_flow_matching(m, data, &(nf_matching_options){.batch = 50});
}

static nf_objective *optimal_of(nf_model *m, const void *data)
{
    return nf_flow_matching(m, data, &(nf_matching_options){.batch = 50, .coupling = NF_COUPLING_OPTIMAL});
}

Test(matching, failing_allocations)
{
    nf_real g[LAYERED];
    const nf_data d = data_for(PLAIN, false);
    nf_model *m = layered();
    nf_real with_context[NET + HIDDEN];
    const nf_data c = data_for(CONTEXT, false);
    nf_model *given = model_at(CONTEXT);
    cr_assert_geq(fail_each_of_a_step(fail_alloc_after, independent_of, m, &d, g), 8);
    cr_assert_geq(fail_each_of_a_step(fail_arena_once, independent_of, m, &d, g), 8);
    cr_assert_geq(fail_each_of_a_step(fail_alloc_after, optimal_of, m, &d, g), 12);
    cr_assert_geq(fail_each_of_a_step(fail_arena_once, optimal_of, m, &d, g), 12);
    cr_assert_geq(fail_each_of_a_step(fail_arena_once, independent_of, given, &c, with_context), 8);
    nf_model_free(m);
    nf_model_free(given);
}

/* After the first step nothing is allocated. */
Test(matching, steps_do_not_allocate)
{
    const nf_data d = data_for(PLAIN, false);
    nf_real g[LAYERED];
    nf_model *m = layered();
    for (int coupling = 0; coupling < 2; coupling++) {
        nf_objective *o = (coupling ? optimal_of : independent_of)(m, &d);
        nf_workspace *ws = nf_workspace_new(1);
        nf_step_report r;
        size_t before = 0;
        for (uint64_t step = 0; step < 10; step++) {
            cr_assert_eq(nf_objective_gradient(o, ws, 1, step, &r, g), NF_OK);
            cr_assert(step == 0 || alloc_count() == before);
            before = alloc_count();
        }
        nf_workspace_free(ws);
        nf_objective_free(o);
    }
    nf_model_free(m);
}
