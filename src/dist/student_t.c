/* Independent Student's t in every dimension, location 0 and scale 1, n degrees of freedom, fixed or learnt:

       log q(x) = c(n) - (n + 1) / 2 log(1 + a^2),    a = |x| / sqrt(n),
       d/dx = -(n + 1) / sqrt(n) sign(x) a / (1 + a^2),
       d/dn = c'(n) - log(1 + a^2) / 2 + (n + 1) / (2 n) a^2 / (1 + a^2).

   Samples are an exact and smooth function of n and two uniforms (dist/student_t.h), so that no derivative of the
   distribution function is needed. a^2 is never formed: with r = min(a, 1/a), log(1 + a^2) = log1p(r^2) + 2 log
   max(a, 1), and a / (1 + a^2) = r / (1 + r^2). So scores and gradients are finite at every finite x.

   theta [dim] if learnt: n = least + softplus(theta). prep [2 dim]: n, then c(n). */
#include "dist/student_t.h"
#include "core/memory.h"
#include "core/noise.h"
#include "core/tree.h"
#include "dist/types.h"

typedef struct student_t {
    bool learn;
    double least;
    size_t n_df; /* 1 or dim */
    double df[]; /* fixed or initial */
} student_t;

static const student_t *self_of(const nf_object *o)
{
    return nf_self(o);
}

static double initial_df(const student_t *t, size_t d)
{
    return t->df[t->n_df > 1 ? d : 0];
}

/* ---- prepared numbers ---- */

static nf_status prepare(const nf_object *o, nf_mode mode, const nf_real *theta, nf_real *state, nf_real *prep)
{
    (void)mode, (void)state;
    const student_t *t = self_of(o);
    size_t dim = o->total.dim_out;
    for (size_t d = 0; d < dim; d++) {
        double df = t->learn ? t->least + nfi_softplus_d((double)theta[d]) : initial_df(t, d), slope;
        prep[d] = (nf_real)df;
        prep[dim + d] = (nf_real)nfi_t_constant((double)prep[d], &slope);
    }
    return NF_OK;
}

static nf_status prepare_vjp(const nf_object *o, const nf_real *theta, const nf_real *state, const nf_real *prep,
                             nf_real *g_prep, nf_real *g_theta)
{
    (void)state;
    size_t dim = o->total.dim_out;
    for (size_t d = 0; self_of(o)->learn && d < dim; d++) {
        double slope;
        nfi_t_constant((double)prep[d], &slope);
        double g_df = (double)g_prep[d] + (double)g_prep[dim + d] * slope;
        g_theta[d] += (nf_real)(g_df * nfi_sigmoid_d((double)theta[d]));
    }
    return NF_OK;
}

static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)noise, (void)batch, (void)state;
    const student_t *t = self_of(o);
    for (size_t d = 0; t->learn && d < o->total.dim_out; d++) {
        double excess = initial_df(t, d) - t->least;
        theta[d] = (nf_real)(excess + log(-expm1(-excess))); /* softplus's inverse */
    }
    return NF_OK;
}

/* ---- kernels ---- */

/* What the score and its derivatives are made of. */
typedef struct parts {
    nf_real log1p, bend, share; /* log(1 + a^2), a / (1 + a^2), a^2 / (1 + a^2) */
} parts;

NFI_INLINE parts parts_of(nf_real x, nf_real inverse_root)
{
    nf_real a = nfi_abs(x) * inverse_root;
    bool far = a > 1;
    nf_real r = far ? 1 / a : a, q = r * r, within = 1 / (1 + q);
    return (parts){nfi_log1p(q) + (far ? 2 * nfi_log(a) : 0), r * within, far ? within : q * within};
}

NFI_CLONES static void t_score(size_t dim, size_t stride, const nf_real *prep, const nf_real *x, double *log_p)
{
    size_t ld = nfi_lanes(stride);
    for (size_t d = 0; d < dim; d++) {
        nf_real df = prep[d], c = prep[dim + d], half = NF_R(0.5) * (df + 1), inverse_root = 1 / nfi_sqrt(df);
        const nf_real *xd = x + d * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            log_p[s] += (double)(c - half * parts_of(xd[s], inverse_root).log1p);
    }
}

/* x from uniforms [2 dim x ld]; slope [dim x ld]: dx / d df. */
NFI_CLONES static void t_draw(size_t dim, size_t stride, const nf_real *prep, const double *uniform, nf_real *x,
                              nf_real *slope)
{
    size_t ld = nfi_lanes(stride);
    for (size_t d = 0; d < dim; d++) {
        const double *u = uniform + 2 * d * ld, *v = u + ld, df = (double)prep[d];
        nf_real *xd = x + d * ld, *sd = slope + d * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            double rate, draw = nfi_t_draw(df, u[s], v[s], &rate);
            xd[s] = (nf_real)draw;
            sd[s] = (nf_real)rate;
        }
    }
}

/* Gradient of <g_log, log q> at fixed x; gx NULL: not wanted. Of a sample, slope is dx / d df, x has the cotangent
   gx_in as well, and df has that of both. g_prep NULL: not wanted. */
NFI_CLONES static void t_gradient(size_t dim, size_t stride, const nf_real *prep, const nf_real *x,
                                  const nf_real *slope, const nf_real *gx_in, const nf_real *g_log, nf_real *gx,
                                  nf_real *g_prep)
{
    size_t ld = nfi_lanes(stride);
    for (size_t d = 0; d < dim; d++) {
        nf_real df = prep[d], root = nfi_sqrt(df), inverse_root = 1 / root, steep = (df + 1) * inverse_root;
        nf_real half = NF_R(0.5) * (df + 1) / df, g_df = 0, g_c = 0;
        const nf_real *xd = x + d * ld, *sd = slope ? slope + d * ld : xd, *gd = gx_in ? gx_in + d * ld : xd;
        nf_real *out = gx ? gx + d * ld : NULL;
        NFI_SIMD_SUM(g_df, g_c)
        for (size_t s = 0; s < ld; s++) {
            parts p = parts_of(xd[s], inverse_root);
            nf_real towards = -steep * (xd[s] < 0 ? -p.bend : p.bend) * g_log[s];
            g_df += g_log[s] * (half * p.share - NF_R(0.5) * p.log1p);
            g_df += slope ? (gd[s] + towards) * sd[s] : 0;
            g_c += g_log[s];
            if (out)
                out[s] = towards;
        }
        if (g_prep) {
            g_prep[d] += g_df;
            g_prep[dim + d] += g_c;
        }
    }
}

/* ---- hooks ---- */

static nf_status sample(const nf_object *o, const nf_pass *p, nf_real *x, double *log_q, void **saved)
{
    size_t dim = o->total.dim_out;
    nf_real *slope = p->tape ? nf_arena_reals(p->tape, dim, p->ld) : NULL;
    nf_mark mark = nf_arena_mark(p->scratch);
    double *uniform = nf_arena_alloc(p->scratch, 2 * dim * p->ld * sizeof *uniform);
    nf_real *unused = p->tape ? NULL : nf_arena_reals(p->scratch, dim, p->ld);
    nf_status status = uniform && (slope || unused) ? NF_OK : NF_ENOMEM;
    if (status == NF_OK) {
        nfi_noise_uniform_d(&p->noise, 2 * dim, p->n, p->ld, uniform);
        t_draw(dim, p->ld, p->prep, uniform, x, slope ? slope : unused);
        t_score(dim, p->ld, p->prep, x, log_q);
        *saved = slope;
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status sample_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *gx,
                            const nf_real *g_log_q, const nf_grad *g)
{
    if (self_of(o)->learn && g->prep)
        t_gradient(o->total.dim_out, p->ld, p->prep, x, saved, gx, g_log_q, NULL, g->prep);
    return NF_OK;
}

static nf_status score(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved)
{
    (void)saved;
    t_score(o->total.dim_out, p->ld, p->prep, x, log_p);
    return NF_OK;
}

static nf_status score_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *g_log_p,
                           nf_real *gx, const nf_grad *g)
{
    (void)saved;
    nf_real *g_prep = self_of(o)->learn ? g->prep : NULL;
    if (gx || g_prep)
        t_gradient(o->total.dim_out, p->ld, p->prep, x, NULL, NULL, g_log_p, gx, g_prep);
    return NF_OK;
}

/* ---- construction and files ---- */

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    if (self_of(o)->learn)
        each(user, "df", 0, 1, &o->total.dim_out);
}

static nf_status describe(const nf_object *o, nf_writer *w)
{
    const student_t *t = self_of(o);
    nf_status status = nf_write_integer(w, "learn", t->learn);
    if (status == NF_OK)
        status = nf_write_number(w, "least", t->least);
    return status == NF_OK ? nf_write_numbers(w, "df", t->n_df, t->df) : status;
}

static nf_dist *rebuild(nf_reader *r)
{
    nf_student_t_options options = {.df = 0};
    uint64_t learn;
    size_t dim = nf_read_dim_out(r), n_df = nf_read_length(r, "df");
    if (nf_read_integer(r, "learn", &learn) != NF_OK || nf_read_number(r, "least", &options.least) != NF_OK)
        return NULL;
    if (n_df == 0 || (n_df != 1 && n_df != dim)) {
        nf_error(NF_EFORMAT, "student_t: degrees of freedom of %zu dimensions for %zu", n_df, dim);
        return NULL;
    }
    double *df = nfi_calloc(n_df, sizeof *df);
    nf_dist *dist = NULL;
    if (df && nf_read_numbers(r, "df", n_df, df) == NF_OK) {
        options.learn = learn != 0;
        options.df = df[0];
        options.each = n_df > 1 ? df : NULL;
        dist = nf_student_t(dim, &options);
    }
    nfi_free(df);
    return dist;
}

const nf_dist_type nfi_student_t_type = {
    .part = {.name = "student_t",
             .prepare = prepare,
             .prepare_vjp = prepare_vjp,
             .init = init,
             .describe = describe,
             .slices = slices,
             .destroy = nfi_free},
    .abi = sizeof(nf_dist_type),
    .sample = sample,
    .sample_vjp = sample_vjp,
    .score = score,
    .score_vjp = score_vjp,
    .rebuild = rebuild,
};

nf_dist *nf_student_t(size_t dim, const nf_student_t_options *options)
{
    static const nf_student_t_options none;
    options = options ? options : &none;
    double least = options->least == 0 ? 1 : options->least, df = options->df == 0 ? 4 : options->df;
    double lowest = options->learn ? least : NFI_LEAST_DF;
    if (dim == 0 || dim > SIZE_MAX / 64) {
        nf_error(NF_EARG, "nf_student_t: `dim` is %zu", dim);
        return NULL;
    }
    if (!(least >= NFI_LEAST_DF && isfinite(least))) {
        nf_error(NF_EARG, "nf_student_t: `least` is %g, but must be at least %g", least, NFI_LEAST_DF);
        return NULL;
    }
    size_t n_df = options->each ? dim : 1;
    for (size_t d = 0; d < n_df; d++) {
        double v = options->each ? options->each[d] : df;
        if (!(options->learn ? v > lowest : v >= lowest) || !(v <= 1e9)) {
            nf_error(NF_EARG,
                     "nf_student_t: dimension %zu has %g degrees of freedom, but must have %s %g and at most 1e9", d, v,
                     options->learn ? "more than" : "at least", lowest);
            return NULL;
        }
    }
    student_t *t = nfi_calloc(1, sizeof *t + n_df * sizeof *t->df);
    if (!t)
        return NULL;
    *t = (student_t){.learn = options->learn, .least = least, .n_df = n_df};
    for (size_t d = 0; d < n_df; d++)
        t->df[d] = options->each ? options->each[d] : df;
    nf_shape own = {.dim_in = dim, .dim_out = dim, .n_prep = 2 * dim, .n_saved = dim};
    own.n_params = t->learn ? dim : 0;
    return nf_dist_new(&nfi_student_t_type, &own, t, NULL, 0);
}
