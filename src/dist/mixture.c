/* A mixture of K normals, all of whose parameters are learnt:

       q(x) = sum_k w_k N(x; m_k, L_k L_k^T),    w = softmax(logits),

   where L_k is diagonal, exp(s_k), or lower triangular with that diagonal. Scores and their gradients are in
   mixture_kernels.c and gaussian_mixture.c; the rest is the same for both.

   A draw is x = m_c + L_c eps with a component c. If c is drawn with probability w_c, there is no reparameterised
   gradient in the weights. If the caller takes weighted samples (nf_pass.log_weight), the samples get the components in
   turn instead, and a sample's weight K w_c depends on the weights (stratified; Morningstar et al. 2021, Automatic
   Differentiation Variational Inference with Mixtures). Sample i has component (i + offset) mod K, with a uniform
   offset that is drawn in each step. So every sample's component is uniform, and weighted means are unbiased for any
   number of samples.

   theta: logits [K], means [K x dim], log-scales [K x dim], and for triangles the rows below the diagonal
   [K x dim (dim - 1) / 2]; also per sample (NF_PER_SAMPLE), for amortisation.
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

/* What a pass leaves on the tape, or on scratch if there is none. */
typedef struct record {
    nfi_mixture q;
    nf_real *r;     /* responsibilities [K x ld]; NULL without a tape */
    uint32_t *from; /* components [ld]; NULL in a score */
    bool in_turn;   /* components were given in turn, not at random */
} record;

static size_t n_components(const nf_object *o)
{
    return *(const size_t *)nf_self(o);
}

static bool is_full(const nf_object *o)
{
    return o->type == &nfi_gaussian_mixture_type;
}

/* A record with the log-weights. NULL if there is no memory. */
static record *new_record(const nf_object *o, const nf_pass *p, bool of_sample, void **saved)
{
    nf_arena *memory = nfi_saving_arena(p);
    record *r = nf_arena_alloc(memory, sizeof *r);
    if (!r)
        return NULL;
    const size_t columns = p->theta_stride ? p->ld : 1, K = n_components(o), dim = o->total.dim_out;
    *r = (record){.q = {.K = K, .dim = dim, .ld = p->ld, .stride = p->theta_stride, .logits = p->theta},
                  .in_turn = p->log_weight != NULL};
    r->q.m = p->theta + K * columns;
    r->q.s = r->q.m + K * dim * columns;
    r->q.l = is_full(o) ? r->q.s + K * dim * columns : NULL;
    r->q.log_w = nf_arena_alloc(memory, (K + 2) * columns * sizeof *r->q.log_w);
    r->r = p->tape ? nf_arena_reals(memory, K, p->ld) : NULL;
    r->from = of_sample ? nf_arena_alloc(memory, p->ld * sizeof *r->from) : NULL;
    if (!r->q.log_w || (p->tape && !r->r) || (of_sample && !r->from))
        return NULL;
    nfi_mixture_weights(r->q);
    *saved = p->tape ? r : NULL;
    return r;
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

/* Adds the log-density at x to log_q. Temporaries are on scratch. */
static nf_status add_score(const record *r, const nf_pass *p, const nf_real *x, double *log_q)
{
    const nfi_mixture q = r->q;
    nf_mark mark = nf_arena_mark(p->scratch);
    double *l = nf_arena_alloc(p->scratch, (q.K + 2) * q.ld * sizeof *l);
    nf_status status = l ? NF_OK : NF_ENOMEM;
    if (l && q.l)
        status = nfi_full_terms(&q, p->scratch, x, l);
    else if (l)
        nfi_mixture_terms(q, x, l);
    if (status == NF_OK)
        nfi_mixture_sum(q, l, l + q.K * q.ld, l + (q.K + 1) * q.ld, log_q, r->r);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* ---- sampling ---- */

/* Where sample i's number `of` is in an array of parameters. */
static size_t place_of(const nfi_mixture *q, size_t of, size_t i)
{
    return q->stride ? of * q->ld + i : of;
}

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
        p->log_weight[i] += log((double)q->K) + q->log_w[place_of(q, from[i], i)];
    }
}

/* Chooses components at random: the first one whose cumulative weight exceeds u [ld]. up_to [K] is memory to compute
   with. */
static void choose(const nfi_mixture *q, const double *u, double *up_to, uint32_t *from)
{
    for (size_t i = 0; i < q->ld; i++) {
        for (size_t k = 0; k < q->K && (i == 0 || q->stride); k++)
            up_to[k] = (k ? up_to[k - 1] : 0) + exp(q->log_w[place_of(q, k, i)]);
        uint32_t k = 0;
        while (k + 1 < q->K && u[i] >= up_to[k])
            k++;
        from[i] = k;
    }
}

static nf_status sample(const nf_object *o, const nf_pass *p, nf_real *x, double *log_q, void **saved)
{
    nf_mark mark = nf_arena_mark(p->scratch);
    record *r = new_record(o, p, true, saved);
    double *u = r ? nf_arena_alloc(p->scratch, (r->q.ld + r->q.K) * sizeof *u) : NULL;
    nf_status status = u ? NF_OK : NF_ENOMEM;
    if (u && p->log_weight)
        deal(&r->q, p, r->from);
    else if (u) {
        nf_noise second = p->noise;
        second.site++;
        nfi_noise_uniform_d(&second, 1, p->n, p->ld, u);
        choose(&r->q, u, u + r->q.ld, r->from);
    }
    if (u) {
        nf_noise_normal(&p->noise, r->q.dim, p->n, p->ld, x);
        nfi_mixture_place(r->q, r->from, x);
        status = add_score(r, p, x, log_q);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* Adds the gradient of <g_log, log q> at fixed x to gx (NULL: not wanted) and to g_theta. r->from and the pass's
   g_log_weight add what the samples' own weights give. */
static nf_status add_gradient(const record *r, const nf_pass *p, const nf_real *x, const nf_real *g_log, nf_real *gx,
                              nf_real *g_theta)
{
    const nfi_mixture q = r->q;
    nf_mark mark = nf_arena_mark(p->scratch);
    double *g_log_w = nfi_zero_doubles(p->scratch, q.K * (q.stride ? q.ld : 1));
    nf_status status = g_log_w ? NF_OK : NF_ENOMEM;
    if (g_log_w && q.l)
        status = nfi_full_gradient(&q, p->scratch, x, r->r, g_log, gx, g_theta, g_log_w);
    else if (g_log_w)
        nfi_mixture_gradient(q, x, r->r, g_log, gx, g_theta, g_log_w);
    if (status == NF_OK) {
        for (size_t i = 0; i < p->n && r->from && p->g_log_weight; i++)
            g_log_w[place_of(&q, r->from[i], i)] += (double)p->g_log_weight[i];
        if (g_theta)
            nfi_mixture_weights_vjp(q, g_log_w, g_theta);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* The whole cotangent of x is gx plus what comes through log q. It gives the gradient in the mean and the scales of
   the component that the sample came from. The cotangent of the sample's log weight goes to that component's log
   w. */
static nf_status sample_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *gx,
                            const nf_real *g_log_q, const nf_grad *g)
{
    (void)o;
    const record *r = saved;
    const nfi_mixture *q = &r->q;
    if (!r->in_turn)
        return nf_error(NF_EUNSUPPORTED,
                        "nf_mixture: components were drawn at random, which has no reparameterised gradient in their "
                        "weights; nf_elbo without groups has them dealt in turn (nf_pass.log_weight), a score has all "
                        "gradients");
    nf_mark mark = nf_arena_mark(p->scratch);
    nf_real *all = nf_arena_reals(p->scratch, 2 * q->dim, q->ld);
    if (all)
        memcpy(all, gx, q->dim * q->ld * sizeof *all);
    nf_status status = all ? add_gradient(r, p, x, g_log_q, all, g->theta) : NF_ENOMEM;
    if (status == NF_OK && g->theta) {
        nf_real *eps = all + q->dim * q->ld;
        nf_noise_normal(&p->noise, q->dim, p->n, q->ld, eps);
        nfi_mixture_place_vjp(*q, p->n, r->from, all, eps, g->theta);
    }
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* ---- scores ---- */

static nf_status score(const nf_object *o, const nf_pass *p, const nf_real *x, double *log_p, void **saved)
{
    nf_mark mark = nf_arena_mark(p->scratch);
    const record *r = new_record(o, p, false, saved);
    const nf_status status = r ? add_score(r, p, x, log_p) : NF_ENOMEM;
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status score_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, void *saved, const nf_real *g_log_p,
                           nf_real *gx, const nf_grad *g)
{
    (void)o;
    const record *r = saved;
    if (gx)
        memset(gx, 0, r->q.dim * r->q.ld * sizeof *gx);
    return add_gradient(r, p, x, g_log_p, gx, g->theta);
}

/* ---- construction and files ---- */

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    size_t K = n_components(o), extents[2] = {K, o->total.dim_out};
    const size_t means = K * extents[1];
    each(user, "logits", 0, 1, &K);
    each(user, "means", K, 2, extents);
    each(user, is_full(o) ? "log_diagonals" : "log_scales", K + means, 2, extents);
    extents[1] = nfi_below(extents[1]);
    if (is_full(o))
        each(user, "below", K + 2 * means, 2, extents);
}

static const nf_option options_of_type[] = {
    {.name = "components", .kind = NF_OPTION_SIZE, .least = 1, .flags = NF_OPTION_REQUIRED, .help = "how many"}};
static const nf_option_table table = NF_OPTION_TABLE("nf_mixture", size_t, options_of_type, NULL);
static const nf_option_table full_table = NF_OPTION_TABLE("nf_gaussian_mixture", size_t, options_of_type, NULL);

NFI_REBUILD(dist, size_t, nf_mixture(nf_read_dim_out(r), *q))

static nf_dist *rebuild_full(nf_reader *r)
{
    const size_t *q = nf_options_read(r, &full_table);
    return q ? nf_gaussian_mixture(nf_read_dim_out(r), *q) : NULL;
}

#define HOOKS(name_, rebuild_, options_)                                                                             \
    {                                                                                                                \
        .part = {.name = (name_), .init = init, .slices = slices, .destroy = nfi_free}, .abi = sizeof(nf_dist_type), \
        .sample = sample, .sample_vjp = sample_vjp, .score = score, .score_vjp = score_vjp, .rebuild = (rebuild_),   \
        .options = (options_)                                                                                        \
    }
const nf_dist_type nfi_mixture_type = HOOKS("mixture", rebuild, &table);
const nf_dist_type nfi_gaussian_mixture_type = HOOKS("gaussian_mixture", rebuild_full, &full_table);

/* A mixture whose components have `each` parameters, 0 for too many. */
static nf_dist *new_mixture(const nf_dist_type *type, size_t dim, size_t n_components, size_t each)
{
    size_t n_params;
    if (dim == 0 || n_components == 0 || n_components > UINT32_MAX || each == 0 || !nfi_add(each, 1, &n_params) ||
        !nfi_mul(n_params, n_components, &n_params)) {
        nf_error(NF_EARG, "%s: %zu components in %zu dimensions", type->options->function, n_components, dim);
        return NULL;
    }
    size_t *self = nfi_calloc(1, sizeof *self);
    if (!self)
        return NULL;
    *self = n_components;
    nf_shape own = {.dim_in = dim, .dim_out = dim, .n_params = n_params, .flags = NF_PER_SAMPLE};
    own.n_saved = n_components + 2;
    own.n_sites = N_SITES;
    return nf_dist_new(type, &own, self, NULL, 0);
}

nf_dist *nf_mixture(size_t dim, size_t n_components)
{
    size_t each;
    return new_mixture(&nfi_mixture_type, dim, n_components, nfi_mul(dim, 2, &each) ? each : 0);
}

nf_dist *nf_gaussian_mixture(size_t dim, size_t n_components)
{
    size_t twice;
    const bool fits = nfi_add(dim, 3, &twice) && nfi_mul(dim, twice, &twice);
    return new_mixture(&nfi_gaussian_mixture_type, dim, n_components, fits ? twice / 2 : 0);
}
