/* Independent Student's t in every dimension, with location 0, scale 1 and n degrees of freedom, fixed or learnt.
   student_t_kernels.c has its score, its samples and their gradients. No derivative of the distribution function is
   needed, since samples are an exact and smooth function of n.

   theta [dim] if learnt: n = least + softplus(theta). prep [2 dim]: n, then its constant c(n) (dist/student_t.h). */
#include "dist/student_t.h"
#include "object/options.h"
#include "base/memory.h"
#include "math/noise.h"
#include "object/tree.h"
#include "dist/kernels.h"
#include "dist/types.h"
#include <string.h>

typedef struct student_t {
    bool learn;
    double least;
    const double *df; /* [n_df] the fixed or the initial degrees of freedom; they are in `numbers` */
    size_t n_df;      /* 1 or dim */
    double numbers[];
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

static const nf_option options_of_type[] = {
    {NF_OPTION(NF_OPTION_BOOL, student_t, learn), .help = "degrees of freedom are parameters"},
    {NF_OPTION(NF_OPTION_REAL, student_t, least), .least = NFI_LEAST_DF, .help = "learnt ones are above this"},
    {NF_OPTION_LIST(NF_OPTION_REALS, student_t, df), .least = NFI_LEAST_DF, .most = 1e9,
     .help = "degrees of freedom, one or one for each dimension"},
};
static const student_t defaults = {.least = 1, .df = (const double[]){4}, .n_df = 1};
static const nf_option_table table = NF_OPTION_TABLE("nf_student_t", student_t, options_of_type, &defaults);

static nf_dist *new_student_t(size_t dim, const student_t *given)
{
    student_t q;
    if (dim == 0 || dim > SIZE_MAX / 64) {
        nf_error(NF_EARG, "nf_student_t: `dim` is %zu", dim);
        return NULL;
    }
    if (nf_options_settle(&table, given, &q) != NF_OK)
        return NULL;
    for (size_t d = 0; q.learn && d < q.n_df; d++)
        if (q.df[d] <= q.least) {
            nf_error(NF_EARG, "nf_student_t: dimension %zu has %g degrees of freedom, but must have more than %g", d,
                     q.df[d], q.least);
            return NULL;
        }
    student_t *t = nfi_calloc(1, sizeof *t + q.n_df * sizeof *t->df);
    if (!t)
        return NULL;
    *t = q;
    t->df = memcpy(t->numbers, q.df, q.n_df * sizeof *t->df);
    nf_shape own = {.dim_in = dim, .dim_out = dim, .n_prep = 2 * dim, .n_saved = dim};
    own.n_params = t->learn ? dim : 0;
    return nf_dist_new(&nfi_student_t_type, &own, t, NULL, 0);
}

nf_dist *nf_student_t(size_t dim, const nf_student_t_options *options)
{
    static const nf_student_t_options none;
    const nf_student_t_options *o = options ? options : &none;
    return new_student_t(dim, &(student_t){.learn = o->learn,
                                           .least = o->least,
                                           .df = o->each      ? o->each
                                                 : o->df != 0 ? &o->df
                                                              : NULL,
                                           .n_df = o->each ? dim : o->df != 0});
}

static nf_dist *rebuild(nf_reader *r)
{
    const size_t dim = nf_read_dim_out(r);
    const student_t *q = nf_options_read(r, &table);
    if (q && q->n_df > 1 && q->n_df != dim)
        nf_error(NF_EFORMAT, "student_t: degrees of freedom of %zu dimensions for %zu",
                 q->n_df == NF_NONE ? 0 : q->n_df, dim);
    else if (q)
        return new_student_t(dim, q);
    return NULL;
}

const nf_dist_type nfi_student_t_type = {
    .part = {.name = "student_t",
             .prepare = prepare,
             .prepare_vjp = prepare_vjp,
             .init = init,
             .slices = slices,
             .destroy = nfi_free},
    .abi = sizeof(nf_dist_type),
    .sample = sample,
    .sample_vjp = sample_vjp,
    .score = score,
    .score_vjp = score_vjp,
    .rebuild = rebuild,
    .options = &table,
};
