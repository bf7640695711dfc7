/* A continuous flow as a user may write it, by the public headers alone: what nf_net_tangent and its product are for.

   FFJORD (Grathwohl et al. 2019): dz/dt = f(z, t), t from 0 to 1, and d(log-det)/dt = tr(df/dz), here by fixed steps of
   the classical Runge-Kutta method, whose stages i = 0 .. 3 have k_i = f(z + h a_i k_(i-1), t + h a_i) and z moves by
   h sum b_i k_i. The trace is sum over j of w <e_j, J e_j>: exact with the dim unit vectors and w = 1, Hutchinson's
   estimate with random signs and w = 1 / probes, the same during the whole solve. The inverse goes from 1 to 0. The
   gradient is that of the steps themselves, backwards. */
#include "core/memory.h"
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>
#include <string.h>

/* ---- the flow ---- */

typedef struct ffjord {
    size_t steps, probes; /* probes 0: the exact trace */
} ffjord;

static const nf_real a[4] = {0, NF_R(0.5), NF_R(0.5), 1},
                     b[4] = {NF_R(1. / 6), NF_R(1. / 3), NF_R(1. / 3), NF_R(1. / 6)};

/* One evaluation: u = (z, t) [dim + 1 x ld], y = f(u) [dim x ld], dy = J e [dim x k ld]. */
typedef struct stage {
    nf_real *u, *y, *dy;
    void *saved, *saved_tangent;
} stage;
typedef struct record {
    nf_real *e; /* [dim + 1 x k ld], the directions; that of time is 0 */
    stage stage[];
} record;

static size_t n_directions(const nf_object *o)
{
    const ffjord *f = nf_self(o);
    return f->probes ? f->probes : nf_object_shape(o)->dim_in;
}

static void draw_directions(const nf_object *o, const nf_pass *p, nf_real *e)
{
    const ffjord *f = nf_self(o);
    const size_t k = n_directions(o), dim = nf_object_shape(o)->dim_in, ld = p->ld;
    memset(e, 0, (dim + 1) * k * ld * sizeof *e);
    if (f->probes)
        nf_noise_uniform(&p->noise, dim * k, p->n, ld, e);
    for (size_t i = 0; i < dim * k * ld; i++) {
        const size_t row = i / (k * ld), j = i / ld % k;
        e[i] = f->probes ? (e[i] < NF_R(0.5) ? -1 : 1) : row == j;
    }
}

/* Fills in s->y and s->dy; log_det += weight tr J. tape: where it is kept. */
static nf_status evaluate(const nf_object *o, const nf_pass *p, nf_arena *tape, const record *r, double weight,
                          stage *s, double *log_det)
{
    const size_t k = n_directions(o), dim = nf_object_shape(o)->dim_in, ld = p->ld;
    nf_pass q = nf_child_pass(o, 0, p);
    q.tape = tape;
    nf_status status = nf_net_apply(nf_child(o, 0), &q, s->u, s->y, &s->saved);
    q.tape = p->tape;
    if (status == NF_OK)
        status = nf_net_tangent(nf_child(o, 0), &q, s->u, s->y, s->saved, k, r->e, s->dy, &s->saved_tangent);
    for (size_t i = 0; i < dim * k * ld && status == NF_OK; i++)
        log_det[i % ld] += weight * (double)r->e[i] * (double)s->dy[i];
    return status;
}

static nf_status new_stage(const nf_object *o, nf_arena *memory, size_t ld, stage *s)
{
    const size_t dim = nf_object_shape(o)->dim_in;
    *s = (stage){.u = nf_arena_reals(memory, dim + 1, ld),
                 .y = nf_arena_reals(memory, dim, ld),
                 .dy = nf_arena_reals(memory, dim * n_directions(o), ld)};
    return s->u && s->y && s->dy ? NF_OK : NF_ENOMEM;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const ffjord *f = nf_self(o);
    const size_t dim = nf_object_shape(o)->dim_in, ld = p->ld, size = dim * ld, k = n_directions(o);
    const nf_real h = (d == NF_FORWARD ? NF_R(1) : NF_R(-1)) / (nf_real)f->steps, w = 1 / (nf_real)(f->probes ? k : 1);
    const nf_mark begin = nf_arena_mark(p->scratch);
    nf_arena *memory = p->tape ? p->tape : p->scratch;
    record *r = nf_arena_alloc(memory, sizeof *r + 4 * (p->tape ? f->steps : 1) * sizeof *r->stage);
    nf_status status = r && (r->e = nf_arena_reals(memory, (dim + 1) * k, ld)) ? NF_OK : NF_ENOMEM;
    if (status == NF_OK)
        draw_directions(o, p, r->e);
    memcpy(y, x, size * sizeof *y);
    for (size_t n = 0; n < f->steps && status == NF_OK; n++) {
        const nf_mark mark = nf_arena_mark(p->scratch);
        const nf_real t = (d == NF_FORWARD ? 0 : 1) + (nf_real)n * h;
        stage *s = r->stage + (p->tape ? 4 * n : 0);
        for (int i = 0; i < 4 && status == NF_OK; i++) {
            status = new_stage(o, memory, ld, &s[i]);
            for (size_t j = 0; j < size + ld && status == NF_OK; j++)
                s[i].u[j] = j >= size ? t + a[i] * h : y[j] + (i ? a[i] * h * s[i - 1].y[j] : 0);
            if (status == NF_OK)
                status = evaluate(o, p, memory, r, (double)(h * b[i] * w), &s[i], log_det);
        }
        for (size_t j = 0; j < size && status == NF_OK; j++)
            y[j] += h * (b[0] * s[0].y[j] + b[1] * s[1].y[j] + b[2] * s[2].y[j] + b[3] * s[3].y[j]);
        if (!p->tape)
            nf_arena_rewind(p->scratch, mark);
    }
    if (p->tape)
        *saved = r;
    else
        nf_arena_rewind(p->scratch, begin);
    return status;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)x, (void)y;
    const ffjord *f = nf_self(o);
    const record *r = saved;
    const size_t dim = nf_object_shape(o)->dim_in, ld = p->ld, size = dim * ld, k = n_directions(o);
    const nf_real h = (d == NF_FORWARD ? NF_R(1) : NF_R(-1)) / (nf_real)f->steps, w = 1 / (nf_real)(f->probes ? k : 1);
    const nf_pass q = nf_child_pass(o, 0, p);
    const nf_grad g_net = nf_child_grad(o, 0, p, g);
    const nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *after = nf_arena_reals(p->scratch, dim, ld), *gk = nf_arena_reals(p->scratch, dim, ld);
    nf_real *gdy = nf_arena_reals(p->scratch, dim * k, ld), *gu = nf_arena_reals(p->scratch, dim + 1, ld);
    nf_status status = after && gk && gdy && gu ? NF_OK : NF_ENOMEM;
    memcpy(gx, gy, size * sizeof *gx); /* the gradient of z, step by step */
    for (size_t n = f->steps; n-- > 0 && status == NF_OK;) {
        memcpy(after, gx, size * sizeof *gx);
        for (int i = 3; i >= 0 && status == NF_OK; i--) {
            const stage *s = &r->stage[4 * n + (size_t)i];
            for (size_t j = 0; j < size; j++)
                gk[j] = h * b[i] * after[j] + (i < 3 ? h * a[i + 1] * gu[j] : 0);
            for (size_t j = 0; j < size * k; j++)
                gdy[j] = h * b[i] * w * g_log_det[j % ld] * r->e[j];
            status = nf_net_tangent_vjp(nf_child(o, 0), &q, s->u, s->y, s->saved, k, r->e, s->dy, s->saved_tangent, gk,
                                        gdy, gu, NULL, &g_net);
            for (size_t j = 0; j < size && status == NF_OK; j++)
                gx[j] += gu[j];
        }
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static const nf_flow_type ffjord_type = {
    .part = {.name = "sketch_ffjord", .destroy = free}, .abi = sizeof ffjord_type, .apply = apply, .vjp = vjp};

static nf_flow *new_ffjord(size_t dim, size_t n_ctx, size_t steps, size_t probes, nf_net *net)
{
    ffjord *f = malloc(sizeof *f);
    *f = (ffjord){.steps = steps, .probes = probes};
    const nf_shape shape = {.dim_in = dim, .dim_out = dim, .n_ctx = n_ctx, .flags = probes ? NF_STOCHASTIC : 0};
    return nf_flow_new(&ffjord_type, &shape, f, (nf_object *[]){nf_net_object(net)}, 1);
}

/* ---- what it has to do ---- */

enum { DIM = 3, CTX = 2, MOST = 4096 };
#ifdef NF_SINGLE
static const bool is_double = false;
#else
static const bool is_double = true;
#endif

/* A flow at a point. */
typedef struct subject {
    nf_flow *flow;
    nf_arena tape, scratch;
    nf_real theta[400], x[DIM * MOST], ctx[CTX * MOST], y[DIM * MOST];
    double log_det[MOST];
    nf_pass p;
    void *saved;
} subject;

static void normals(size_t rows, size_t n, size_t ld, uint64_t seed, nf_real *v)
{
    nf_noise_normal(&(nf_noise){.seed = seed, .site = 8}, rows, n, ld, v);
}

static void begin(subject *s, size_t steps, size_t probes, size_t n)
{
    memset(s, 0, sizeof *s);
    const size_t ld = (n + 15) / 16 * 16;
    s->flow = new_ffjord(DIM, CTX, steps, probes,
                         nf_mlp(DIM + 1, DIM, CTX,
                                &(nf_mlp_options){.hidden = (size_t[]){9, 7}, .n_hidden = 2, .activation = NF_SWISH}));
    cr_assert_not_null(s->flow, "%s", nf_error_message());
    const size_t n_params = nf_flow_shape(s->flow)->n_params;
    cr_assert_leq(n_params, 400);
    normals(n_params, 1, 1, 1, s->theta);
    for (size_t i = 0; i < n_params; i++)
        s->theta[i] *= NF_R(0.5);
    normals(DIM, n, ld, 2, s->x);
    normals(CTX, n, ld, 3, s->ctx);
    s->p = (nf_pass){.n = n, .ld = ld, .theta = s->theta, .ctx = s->ctx, .tape = &s->tape, .scratch = &s->scratch};
    s->p.noise = (nf_noise){.seed = 5, .step = 2, .site = 3};
}

static void end(subject *s)
{
    nfi_arena_clear(&s->tape);
    nfi_arena_clear(&s->scratch);
    nf_flow_free(s->flow);
}

static void run(subject *s, nf_direction d, const nf_real *x, nf_real *y)
{
    memset(s->log_det, 0, sizeof s->log_det);
    cr_assert_eq(nf_flow_apply(nf_flow_object(s->flow), d, &s->p, x, y, s->log_det, &s->saved), NF_OK);
}

static double round_trip(size_t steps)
{
    static subject s;
    static nf_real back[DIM * MOST];
    double worst = 0;
    begin(&s, steps, 0, 37);
    s.p.tape = NULL;
    run(&s, NF_FORWARD, s.x, s.y);
    run(&s, NF_INVERSE, s.y, back);
    for (size_t i = 0; i < DIM * s.p.ld; i++)
        worst = fmax(worst, fabs((double)back[i] - (double)s.x[i]));
    end(&s);
    return worst;
}

/* To the solver's error, which is of fourth order or better. */
Test(sketch_ffjord, inverse)
{
    const double coarse = round_trip(8), fine = round_trip(16);
    cr_assert(coarse < 1e-3 && (coarse > 12 * fine || fine < 2e-6), "%g, then %g", coarse, fine);
}

/* Of [DIM x DIM], by the rule of Sarrus. */
static double determinant(double J[DIM][DIM])
{
    double sum = 0;
    for (size_t i = 0; i < DIM; i++)
        sum += J[0][i] * (J[1][(i + 1) % 3] * J[2][(i + 2) % 3] - J[1][(i + 2) % 3] * J[2][(i + 1) % 3]);
    return sum;
}

Test(sketch_ffjord, log_det_is_that_of_the_jacobian)
{
    static subject s;
    static nf_real gy[DIM * MOST], g_log_det[MOST], gx[DIM * MOST];
    static double J[37][DIM][DIM];
    for (int d = 0; d < 2; d++) {
        begin(&s, 40, 0, 37);
        run(&s, (nf_direction)d, s.x, s.y);
        for (size_t i = 0; i < DIM; i++) {
            memset(gy, 0, sizeof gy);
            for (size_t j = 0; j < s.p.n; j++)
                gy[i * s.p.ld + j] = 1;
            cr_assert_eq(nf_flow_vjp(nf_flow_object(s.flow), (nf_direction)d, &s.p, s.x, s.y, s.saved, gy, g_log_det,
                                     gx, &(nf_grad){0}),
                         NF_OK);
            for (size_t j = 0; j < s.p.n; j++)
                for (size_t c = 0; c < DIM; c++)
                    J[j][i][c] = (double)gx[c * s.p.ld + j];
        }
        for (size_t j = 0; j < s.p.n; j++)
            cr_assert_float_eq(s.log_det[j], log(determinant(J[j])), is_double ? 1e-6 : 1e-4, "%g, not %g",
                               s.log_det[j], log(determinant(J[j])));
        end(&s);
    }
}

/* <gy, y> + <g_log_det, log-det> with everything moved by h along e. */
static double loss(const subject *at, nf_direction d, double h, nf_real *const e[3], const nf_real *gy)
{
    static subject s;
    s = *at;
    const size_t ld = s.p.ld, size[3] = {nf_flow_shape(s.flow)->n_params, DIM * ld, CTX * ld};
    nf_real *moved[3] = {s.theta, s.x, s.ctx};
    double sum = 0;
    for (int k = 0; k < 3; k++)
        for (size_t i = 0; i < size[k]; i++)
            moved[k][i] = (nf_real)((double)moved[k][i] + h * (double)e[k][i]);
    s.tape = s.scratch = (nf_arena){0};
    s.p.theta = s.theta, s.p.ctx = s.ctx, s.p.tape = NULL, s.p.scratch = &s.scratch;
    run(&s, d, s.x, s.y);
    for (size_t i = 0; i < (DIM + 1) * ld; i++)
        sum += (double)gy[i] * (i < DIM * ld ? (double)s.y[i] : s.log_det[i % ld]);
    nfi_arena_clear(&s.scratch);
    return sum;
}

Test(sketch_ffjord, taylor)
{
    static subject s;
    static nf_real gy[(DIM + 1) * MOST], gx[DIM * MOST], g_theta[400], g_ctx[CTX * MOST];
    static nf_real e_theta[400], e_x[DIM * MOST], e_ctx[CTX * MOST];
    for (int k = 0; k < 6; k++) {
        const nf_direction d = (nf_direction)(k % 2);
        begin(&s, 5, (size_t)(k / 2), 37); /* the exact trace, one and two probes */
        const size_t ld = s.p.ld, n = s.p.n, n_params = nf_flow_shape(s.flow)->n_params;
        memset(gy, 0, sizeof gy), memset(g_theta, 0, sizeof g_theta), memset(g_ctx, 0, sizeof g_ctx);
        normals(DIM + 1, n, ld, 11, gy);
        normals(n_params, 1, 1, 12, e_theta), normals(DIM, n, ld, 13, e_x), normals(CTX, n, ld, 14, e_ctx);
        for (size_t i = 0; i < (DIM + 1) * ld; i++)
            gy[i] = i % ld < n ? gy[i] : 0;
        run(&s, d, s.x, s.y);
        cr_assert_eq(nf_flow_vjp(nf_flow_object(s.flow), d, &s.p, s.x, s.y, s.saved, gy, gy + DIM * ld, gx,
                                 &(nf_grad){.theta = g_theta, .ctx = g_ctx}),
                     NF_OK);
        double slope = 0, rest[2], base = loss(&s, d, 0, (nf_real *[]){e_theta, e_x, e_ctx}, gy);
        for (size_t i = 0; i < n_params; i++)
            slope += (double)g_theta[i] * (double)e_theta[i];
        for (size_t i = 0; i < DIM * ld; i++)
            slope += (double)gx[i] * (double)e_x[i] + (i < CTX * ld ? (double)g_ctx[i] * (double)e_ctx[i] : 0);
        const double h = is_double ? 1e-4 : 1e-3;
        for (int j = 0; j < 2; j++)
            rest[j] = loss(&s, d, h / (1 << j), (nf_real *[]){e_theta, e_x, e_ctx}, gy) - base - h / (1 << j) * slope;
        if (is_double)
            cr_assert_float_eq(log2(rest[0] / rest[1]), 2, 0.05, "%g and %g", rest[0], rest[1]);
        cr_assert_lt(fabs(rest[1]), 0.02 * h * fabs(slope), "a slope of %g leaves %g", slope, rest[1]);
        end(&s);
    }
}

/* One point MOST times over, each with a probe of its own. */
Test(sketch_ffjord, mean_of_the_estimates_is_the_trace)
{
    static subject s, exact;
    double mean = 0, square = 0;
    begin(&exact, 6, 0, 1);
    begin(&s, 6, 1, MOST);
    for (size_t i = 0; i < DIM * MOST; i++)
        s.x[i] = exact.x[i / MOST * exact.p.ld];
    for (size_t i = 0; i < CTX * MOST; i++)
        s.ctx[i] = exact.ctx[i / MOST * exact.p.ld];
    s.p.tape = exact.p.tape = NULL;
    run(&exact, NF_FORWARD, exact.x, exact.y);
    run(&s, NF_FORWARD, s.x, s.y);
    for (size_t i = 0; i < MOST; i++) {
        const double error = s.log_det[i] - exact.log_det[0];
        mean += error / MOST;
        square += error * error / MOST;
    }
    cr_assert(square > 1e-6 && fabs(mean) < 4 * sqrt(square / MOST), "off by %g, deviation %g", mean, sqrt(square));
    end(&s);
    end(&exact);
}
