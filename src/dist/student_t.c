/* Independent Student's t in every dimension, with location 0, scale 1 and n degrees of freedom, fixed or learnt.
   student_t_kernels.c has its score, its samples and their gradients. No derivative of the distribution function is
   needed, since samples are an exact and smooth function of n.

   theta [dim] if learnt: n = least + softplus(theta). prep [2 dim]: n, then its constant c(n) (dist/student_t.h). */
#include "dist/student_t.h"
#include "object/fields.h"
#include "base/memory.h"
#include "math/noise.h"
#include "object/tree.h"
#include "dist/kernels.h"
#include "dist/types.h"

typedef struct student_t {
    bool learn;
    double least;
    size_t n_df; /* 1 or dim */
    double df[]; /* the fixed or the initial degrees of freedom */
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
        theta[d] = (nf_real)(excess + log(-expm1(-excess))); /* the inverse of softplus */
    }
    return NF_OK;
}

/* ---- hooks ---- */

static nf_status sample(const nf_object *o, const nf_pass *p, nf_real *x, double *log_q, void **saved)
{
    size_t dim = o->total.dim_out;
    nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *slope = nf_arena_reals(nfi_saving_arena(p), dim, p->ld);
    double *uniform = nf_arena_alloc(p->scratch, 2 * dim * p->ld * sizeof *uniform);
    nf_status status = uniform && slope ? NF_OK : NF_ENOMEM;
    if (status == NF_OK) {
        nfi_noise_uniform_d(&p->noise, 2 * dim, p->n, p->ld, uniform);
        nfi_student_t_draw(dim, p->ld, p->prep, uniform, x, slope);
        nfi_student_t_score(dim, p->ld, p->prep, x, log_q);
        *saved = p->tape ? slope : NULL;
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status sample_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *gx,
                            const nf_real *g_log_q, const nf_grad *g)
{
    if (self_of(o)->learn && g->prep)
        nfi_student_t_sample_gradient(o->total.dim_out, p->ld, p->prep, x, saved, gx, g_log_q, g->prep);
    return NF_OK;
}

static nf_status score(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved)
{
    (void)saved;
    nfi_student_t_score(o->total.dim_out, p->ld, p->prep, x, log_p);
    return NF_OK;
}

static nf_status score_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *g_log_p,
                           nf_real *gx, const nf_grad *g)
{
    (void)saved;
    nf_real *g_prep = self_of(o)->learn ? g->prep : NULL;
    if (gx || g_prep)
        nfi_student_t_gradient(o->total.dim_out, p->ld, p->prep, x, g_log_p, gx, g_prep);
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
    nf_status status = nf_write_bool(w, "learn", t->learn);
    if (status == NF_OK)
        status = nf_write_number(w, "least", t->least);
    return status == NF_OK ? nf_write_numbers(w, "df", t->n_df, t->df) : status;
}

static nf_dist *rebuild(nf_reader *r)
{
    nf_student_t_options options = {.df = 0};
    size_t dim = nf_read_dim_out(r), n_df = nf_read_length(r, "df");
    if (nfi_maybe_bool(r, "learn", &options.learn) != NF_OK || nfi_maybe_number(r, "least", &options.least) != NF_OK)
        return NULL;
    if (!nf_read_has(r, "df"))
        return nf_student_t(dim, &options);
    if (n_df == 0 || (n_df != 1 && n_df != dim)) {
        nf_error(NF_EFORMAT, "student_t: degrees of freedom of %zu dimensions for %zu", n_df, dim);
        return NULL;
    }
    double *df = nfi_calloc(n_df, sizeof *df);
    nf_dist *dist = NULL;
    if (df && nf_read_numbers(r, "df", n_df, df) == NF_OK) {
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
