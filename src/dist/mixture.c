/* A mixture of K diagonal normals, all of whose parameters are learnt:

       q(x) = sum_k w_k N(x; m_k, diag exp(2 s_k)),    w = softmax(logits).

   Its score and the score's gradients are in mixture_kernels.c.

   A draw is x = m_c + exp(s_c) eps with a component c. If c is drawn with probability w_c, there is no reparameterised
   gradient in the weights. If the caller takes weighted samples (nf_pass.log_weight), the samples get the components in
   turn instead, and a sample's weight K w_c depends on the weights (stratified; Morningstar et al. 2021, Automatic
   Differentiation Variational Inference with Mixtures). Sample i has component (i + offset) mod K, with a uniform
   offset that is drawn in each step. So every sample's component is uniform, and weighted means are unbiased for any
   number of samples.

   theta: logits [K], means [K x dim], log-scales [K x dim]. prep: log w [K].
   Noise: eps has the node's first site, random components the second, the offset the third. */
#include "dist/mixture.h"
#include "base/memory.h"
#include "math/noise.h"
#include "object/options.h"
#include "object/tree.h"
#include "dist/types.h"
#include <math.h>
#include <string.h>

enum { N_SITES = 3 };

/* What a pass leaves on the tape. */
typedef struct record {
    nf_real *r;     /* responsibilities [K x ld] */
    uint32_t *from; /* components [ld]; NULL in a score */
    bool in_turn;   /* components were given in turn, not at random */
} record;

static size_t n_components(const nf_object *o)
{
    return *(const size_t *)nf_self(o);
}

static nfi_mixture mixture_of(const nf_object *o, const nf_pass *p)
{
    nfi_mixture q = {.K = n_components(o), .dim = o->total.dim_out, .ld = p->ld};
    q.m = p->theta + q.K;
    q.s = q.m + q.K * q.dim;
    q.log_w = p->prep;
    return q;
}

/* ---- prepared numbers ---- */

static nf_status prepare(const nf_object *o, nf_mode mode, const nf_real *theta, nf_real *state, nf_real *prep)
{
    (void)mode, (void)state;
    size_t K = n_components(o);
    double most = -INFINITY, sum = 0;
    for (size_t k = 0; k < K; k++)
        most = (double)theta[k] > most ? (double)theta[k] : most;
    for (size_t k = 0; k < K; k++)
        sum += exp((double)theta[k] - most);
    for (size_t k = 0; k < K; k++)
        prep[k] = (nf_real)((double)theta[k] - most - log(sum));
    return NF_OK;
}

static nf_status prepare_vjp(const nf_object *o, const nf_real *theta, const nf_real *state, const nf_real *prep,
                             nf_real *g_prep, nf_real *g_theta)
{
    (void)theta, (void)state;
    double sum = 0;
    for (size_t k = 0; k < n_components(o); k++)
        sum += (double)g_prep[k];
    for (size_t k = 0; k < n_components(o); k++)
        g_theta[k] += (nf_real)((double)g_prep[k] - exp((double)prep[k]) * sum);
    return NF_OK;
}

/* Equal weights, means drawn from N(0, 1), scales 1. */
static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch, (void)state;
    size_t K = n_components(o);
    nf_noise_normal(noise, K * o->total.dim_out, 1, 1, theta + K);
    return NF_OK;
}

/* ---- densities ---- */

/* Adds the log-density at x to log_q. r, if not NULL, receives the responsibilities. Temporaries are on scratch. */
static nf_status add_score(const nfi_mixture *q, const nf_pass *p, const nf_real *x, double *log_q, nf_real *r)
{
    nf_mark mark = nf_arena_mark(p->scratch);
    double *l = nf_arena_alloc(p->scratch, (q->K + 2) * q->ld * sizeof *l);
    if (l) {
        nfi_mixture_terms(*q, x, l);
        nfi_mixture_sum(*q, l, l + q->K * q->ld, l + (q->K + 1) * q->ld, log_q, r);
    }
    nf_arena_rewind(p->scratch, mark);
    return l ? NF_OK : NF_ENOMEM;
}

static nf_status new_record(const nfi_mixture *q, const nf_pass *p, bool of_sample, record **r)
{
    *r = NULL;
    if (!p->tape)
        return NF_OK;
    *r = nf_arena_alloc(p->tape, sizeof **r);
    if (!*r)
        return NF_ENOMEM;
    **r = (record){.r = nf_arena_reals(p->tape, q->K, q->ld), .in_turn = p->log_weight != NULL};
    if (of_sample)
        (*r)->from = nf_arena_alloc(p->tape, q->ld * sizeof(uint32_t));
    return (*r)->r && (!of_sample || (*r)->from) ? NF_OK : NF_ENOMEM;
}

/* ---- sampling ---- */

/* Gives the samples their components in turn, and adds the logarithms of their weights to p->log_weight. */
static void deal(const nfi_mixture *q, const nf_pass *p, uint32_t *from)
{
    nf_noise noise = p->noise;
    double u;
    noise.site += 2;
    noise.first_sample = 0;
    noise.column = NULL;
    nfi_noise_uniform_d(&noise, 1, 1, 1, &u);
    uint64_t offset = (uint64_t)(u * (double)q->K);
    for (size_t i = 0; i < q->ld; i++) {
        uint64_t sample = nf_noise_sample(&p->noise, i < p->n ? i : p->n - 1);
        from[i] = (uint32_t)((sample % q->K + offset) % q->K);
        p->log_weight[i] += log((double)q->K) + (double)q->log_w[from[i]];
    }
}

/* Chooses components at random: the first one whose cumulative weight exceeds u [ld]. up_to [K] is memory to compute
   with. */
static void choose(const nfi_mixture *q, const double *u, double *up_to, uint32_t *from)
{
    for (size_t k = 0; k < q->K; k++)
        up_to[k] = (k ? up_to[k - 1] : 0) + exp((double)q->log_w[k]);
    for (size_t i = 0; i < q->ld; i++) {
        uint32_t k = 0;
        while (k + 1 < q->K && u[i] >= up_to[k])
            k++;
        from[i] = k;
    }
}

/* x = m_c + exp(s_c) x, where x holds normal noise before. scale [K] is memory to compute with. */
static void place(const nfi_mixture *q, const uint32_t *from, double *scale, nf_real *x)
{
    for (size_t d = 0; d < q->dim; d++) {
        nf_real *xd = x + d * q->ld;
        for (size_t k = 0; k < q->K; k++)
            scale[k] = exp((double)q->s[k * q->dim + d]);
        for (size_t i = 0; i < q->ld; i++)
            xd[i] = (nf_real)((double)q->m[from[i] * q->dim + d] + scale[from[i]] * (double)xd[i]);
    }
}

static nf_status sample(const nf_object *o, const nf_pass *p, nf_real *x, double *log_q, void **saved)
{
    const nfi_mixture q = mixture_of(o, p);
    record *r;
    nf_status status = new_record(&q, p, true, &r);
    nf_mark mark = nf_arena_mark(p->scratch);
    uint32_t *from = r ? r->from : nf_arena_alloc(p->scratch, q.ld * sizeof *from);
    double *u = nf_arena_alloc(p->scratch, (q.ld + q.K) * sizeof *u);
    if (!from || !u)
        status = NF_ENOMEM;
    if (status == NF_OK && p->log_weight)
        deal(&q, p, from);
    else if (status == NF_OK) {
        nf_noise second = p->noise;
        second.site++;
        nfi_noise_uniform_d(&second, 1, p->n, p->ld, u);
        choose(&q, u, u + q.ld, from);
    }
    if (status == NF_OK) {
        nf_noise_normal(&p->noise, q.dim, p->n, p->ld, x);
        place(&q, from, u + q.ld, x);
        status = add_score(&q, p, x, log_q, r ? r->r : NULL);
    }
    nf_arena_rewind(p->scratch, mark);
    *saved = r;
    return status;
}

/* The whole cotangent of x is gx plus what comes through log q. It gives the gradient in the mean and log-scale of
   the component that the sample came from. The cotangent of the sample's log weight goes to that component's log
   w. */
static nf_status sample_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *gx,
                            const nf_real *g_log_q, const nf_grad *g)
{
    const nfi_mixture q = mixture_of(o, p);
    const record *r = saved;
    if (!r->in_turn)
        return nf_error(NF_EUNSUPPORTED,
                        "nf_mixture: components were drawn at random, which has no reparameterised gradient in their "
                        "weights; nf_elbo has them dealt in turn (nf_pass.log_weight), a score has all gradients");
    nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *all = nf_arena_reals(p->scratch, q.dim, q.ld);
    if (all) {
        memcpy(all, gx, q.dim * q.ld * sizeof *all);
        nfi_mixture_gradient(q, x, r->r, g_log_q, all, g->theta, g->prep);
        nf_real *g_m = g->theta ? g->theta + q.K : NULL, *g_s = g->theta ? g_m + q.K * q.dim : NULL;
        for (size_t d = 0; d < q.dim && g->theta; d++)
            for (size_t i = 0; i < p->n; i++) {
                size_t at = r->from[i] * q.dim + d;
                g_m[at] += all[d * q.ld + i];
                g_s[at] += all[d * q.ld + i] * (x[d * q.ld + i] - q.m[at]);
            }
        for (size_t i = 0; i < p->n && g->prep && p->g_log_weight; i++)
            g->prep[r->from[i]] += p->g_log_weight[i];
    }
    nf_arena_rewind(p->scratch, mark);
    return all ? NF_OK : NF_ENOMEM;
}

/* ---- scores ---- */

static nf_status score(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved)
{
    const nfi_mixture q = mixture_of(o, p);
    record *r;
    nf_status status = new_record(&q, p, false, &r);
    *saved = r;
    return status == NF_OK ? add_score(&q, p, x, log_p, r ? r->r : NULL) : status;
}

static nf_status score_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *g_log_p,
                           nf_real *gx, const nf_grad *g)
{
    const nfi_mixture q = mixture_of(o, p);
    const record *r = saved;
    if (gx)
        memset(gx, 0, q.dim * q.ld * sizeof *gx);
    nfi_mixture_gradient(q, x, r->r, g_log_p, gx, g->theta, g->prep);
    return NF_OK;
}

/* ---- construction and files ---- */

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    const size_t K = n_components(o), extents[2] = {K, o->total.dim_out};
    each(user, "logits", 0, 1, &K);
    each(user, "means", K, 2, extents);
    each(user, "log_scales", K + K * extents[1], 2, extents);
}

static const nf_option options_of_type[] = {
    {.name = "components", .kind = NF_OPTION_SIZE, .least = 1, .flags = NF_OPTION_REQUIRED, .help = "how many"}};
static const nf_option_table table = NF_OPTION_TABLE("nf_mixture", size_t, options_of_type, NULL);

NFI_REBUILD(dist, size_t, nf_mixture(nf_read_dim_out(r), *q))

const nf_dist_type nfi_mixture_type = {
    .part = {.name = "mixture",
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

nf_dist *nf_mixture(size_t dim, size_t n_components)
{
    size_t means, n_params;
    if (dim == 0 || n_components == 0 || n_components > UINT32_MAX || !nfi_mul(dim, n_components, &means) ||
        !nfi_mul(means, 2, &n_params) || !nfi_add(n_params, n_components, &n_params)) {
        nf_error(NF_EARG, "nf_mixture: %zu components in %zu dimensions", n_components, dim);
        return NULL;
    }
    size_t *self = nfi_calloc(1, sizeof *self);
    if (!self)
        return NULL;
    *self = n_components;
    nf_shape own = {.dim_in = dim, .dim_out = dim, .n_params = n_params, .n_prep = n_components};
    own.n_saved = n_components + 1;
    own.n_sites = N_SITES;
    return nf_dist_new(&nfi_mixture_type, &own, self, NULL, 0);
}
