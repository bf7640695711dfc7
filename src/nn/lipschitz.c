/* A perceptron whose layers are contractions in x: each matrix W [out x in] is replaced by

       s W,   s = min(1, c / sigma(W)),

   with its largest singular value sigma (Miyato et al. 2018; Behrmann et al. 2019, eq. 8). Columns that read context
   stay as they are. The perceptron is a detached child: its parameters are the prepared numbers.

   sigma comes from power iteration, which starts at the vector of the last step, in `state`. Its result is never above
   sigma. So what divides is sigma plus the residual, near which a singular value lies. With the unit vectors u and v,
   d sigma / dW = u v^T, and for a cotangent G of s W

       gW = s G - s <G, W> / sigma u v^T    if s < 1. */
#include "nn/lipschitz.h"
#include "nn/mlp.h"
#include "nn/types.h"
#include "base/memory.h"
#include "object/options.h"
#include "object/parts.h"
#include "object/tree.h"
#include <math.h>
#include <string.h>

/* In training the residual is at most LOOSE sigma, unless that takes more than MOST_IN_TRAINING steps. Otherwise it is
   down to rounding (TIGHT), unless that takes more than about EFFORT multiplications. MARGIN is for the rounding of the
   scaled matrix itself. MIXED is how much of a random vector is added to the start outside training, so that a singular
   value that has overtaken the others is found. */
static const nf_real LOOSE = NF_R(1e-3), MIXED = NF_R(0.01);
static const nf_real TIGHT = sizeof(nf_real) == sizeof(double) ? NF_R(1.5e-14) : NF_R(8e-6);
static const double MARGIN = sizeof(nf_real) == sizeof(double) ? 1e-12 : 1e-5;
enum { MOST_IN_TRAINING = 50, LEAST_OUTSIDE = 100, MOST_OUTSIDE = 4000, EFFORT = 1 << 23 };

/* A layer: where its numbers begin in theta, in state (v) and in prep: s, sigma; u [out], v [in], spare [in]. */
typedef struct layer {
    nfi_dense d;
    size_t theta, state, prep;
} layer;

static const nfi_mlp *perceptron_of(const nf_object *o)
{
    return nf_self(nf_child(o, 0));
}

static layer first_layer(const nf_object *o)
{
    return (layer){.d = nfi_mlp_layer(perceptron_of(o), 0), .prep = nf_object_shape(nf_child(o, 0))->n_params};
}

static size_t prepared_size(const nfi_dense *d)
{
    return 2 + d->out + 2 * d->in;
}

static void next_layer(const nf_object *o, size_t l, layer *at)
{
    at->theta += nfi_dense_size(&at->d);
    at->state += at->d.in;
    at->prep += prepared_size(&at->d);
    if (l < perceptron_of(o)->n_layers)
        at->d = nfi_mlp_layer(perceptron_of(o), l);
}

/* ---- once a step ---- */

/* v becomes a unit vector: `from` itself, or if that has no direction or `mixed` is not 0, with a random part. */
static void begin(size_t n, const nf_real *from, nf_real mixed, nf_real *random, nf_real *v)
{
    double square = 0;
    for (size_t i = 0; i < n; i++)
        square += (double)from[i] * (double)from[i];
    const bool usable = square > 0 && isfinite(square);
    const nf_real kept = usable ? (nf_real)(1 / sqrt(square)) : 0;
    memset(random, 0, n * sizeof *random);
    if (mixed > 0 || !usable)
        nf_noise_normal(&(nf_noise){.seed = 0x11b5}, n, 1, 1, random);
    const nf_real share = usable ? mixed / (nf_real)sqrt((double)n) : 1;
    square = 0;
    for (size_t i = 0; i < n; i++) {
        v[i] = (usable ? kept * from[i] : 0) + share * random[i];
        square += (double)v[i] * (double)v[i];
    }
    for (size_t i = 0; i < n; i++)
        v[i] = (nf_real)((double)v[i] / sqrt(square));
}

/* The largest singular value of the layer's matrix, its vectors, and the factor s. w: the layer's numbers. */
static void prepare_layer(const nf_object *o, const layer *at, nf_mode mode, const nf_real *w, nf_real *state,
                          nf_real *prep)
{
    const nf_lipschitz_options *q = nf_self(o);
    const size_t in = at->d.in, out = at->d.out, stride = nfi_dense_fan_in(&at->d);
    nf_real *u = prep + 2, *v = u + out, *spare = v + in;
    const size_t affordable = EFFORT / (in * out + 1);
    const size_t most = mode == NF_TRAIN             ? MOST_IN_TRAINING
                        : affordable > MOST_OUTSIDE  ? MOST_OUTSIDE
                        : affordable < LEAST_OUTSIDE ? LEAST_OUTSIDE
                                                     : affordable;
    nfi_singular found = {0};
    if (in) {
        begin(in, state, mode == NF_TRAIN ? 0 : MIXED, spare, v);
        nfi_power_iteration(out, in, stride, w, most, mode == NF_TRAIN ? LOOSE : TIGHT, u, v, spare, &found);
    }
    if (mode == NF_TRAIN)
        memcpy(state, v, in * sizeof *v);
    const double above = ((double)found.sigma + (double)found.residual) * (1 + MARGIN);
    prep[0] = above > q->bound ? (nf_real)(q->bound / above) : 1;
    prep[1] = found.sigma;
    if (isnan(above))
        prep[0] = NF_R(NAN);
}

static nf_status prepare(const nf_object *o, nf_mode mode, const nf_real *theta, nf_real *state, nf_real *prep)
{
    const nfi_mlp *m = perceptron_of(o);
    layer at = first_layer(o);
    memcpy(prep, theta, at.prep * sizeof *prep);
    for (size_t l = 0; l < m->n_layers; next_layer(o, ++l, &at)) {
        const size_t stride = nfi_dense_fan_in(&at.d);
        prepare_layer(o, &at, mode, theta + at.theta, state + at.state, prep + at.prep);
        for (size_t r = 0; r < at.d.out; r++)
            for (size_t c = 0; c < at.d.in; c++)
                prep[at.theta + r * stride + c] *= prep[at.prep];
    }
    return NF_OK;
}

static nf_status prepare_vjp(const nf_object *o, const nf_real *theta, const nf_real *state, const nf_real *prep,
                             nf_real *g_prep, nf_real *g_theta)
{
    (void)state;
    const nfi_mlp *m = perceptron_of(o);
    layer at = first_layer(o);
    for (size_t l = 0; l < m->n_layers; next_layer(o, ++l, &at)) {
        const size_t in = at.d.in, out = at.d.out, stride = nfi_dense_fan_in(&at.d);
        const nf_real s = prep[at.prep], sigma = prep[at.prep + 1], *u = prep + at.prep + 2;
        nf_real *G = g_prep + at.theta, *gW = g_theta + at.theta;
        if (s < 1)
            nfi_add_rank_one(
                out, in, stride,
                (nf_real)(-(double)s / (double)sigma * nfi_matrix_dot(out, in, stride, G, theta + at.theta)), u,
                u + out, gW);
        for (size_t r = 0; r < out; r++)
            for (size_t c = 0; c < in; c++)
                G[r * stride + c] *= s;
        for (size_t i = 0; i < nfi_dense_size(&at.d); i++)
            gW[i] += G[i];
    }
    return NF_OK;
}

/* ---- tiles: the perceptron's own functions with other parameters ---- */

static nf_pass inner_pass(const nf_object *o, const nf_pass *p)
{
    nf_pass q = nf_child_pass(o, 0, p);
    q.theta = p->prep;
    q.theta_stride = 0;
    return q;
}

static nf_grad inner_grad(const nf_grad *g)
{
    return (nf_grad){.theta = g->prep, .ctx = g->ctx};
}

static nf_status apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    const nf_pass q = inner_pass(o, p);
    return nf_net_apply(nf_child(o, 0), &q, x, y, saved);
}

static nf_status vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                     const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    const nf_pass q = inner_pass(o, p);
    const nf_grad h = inner_grad(g);
    return nf_net_vjp(nf_child(o, 0), &q, x, y, saved, gy, gx, &h);
}

static nf_status tangent(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                         size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent)
{
    const nf_pass q = inner_pass(o, p);
    return nf_net_tangent(nf_child(o, 0), &q, x, y, saved, k, dx, dy, saved_tangent);
}

static nf_status tangent_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                             size_t k, const nf_real *dx, const nf_real *dy, void *saved_tangent, const nf_real *gy,
                             const nf_real *gdy, nf_real *gx, nf_real *gdx, const nf_grad *g)
{
    const nf_pass q = inner_pass(o, p);
    const nf_grad h = inner_grad(g);
    return nf_net_tangent_vjp(nf_child(o, 0), &q, x, y, saved, k, dx, dy, saved_tangent, gy, gdy, gx, gdx, &h);
}

/* ---- structure ---- */

/* The perceptron draws its weights. The vectors in state are random; the first preparation iterates from there. */
static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch;
    const nf_object *inner = nf_child(o, 0);
    nf_noise moved = *noise;
    moved.site += o->place[0].site;
    if (state)
        nf_noise_normal(noise, nf_object_shape(o)->n_state, 1, 1, state);
    return nfi_tree_init(inner, &moved, NULL, theta, NULL);
}

static nf_status shift_output(const nf_object *o, const nf_real *shift, nf_real *theta)
{
    return nfi_mlp_type.shift_output(nf_child(o, 0), shift, theta);
}

static void slices(const nf_object *o, nf_slice_fn *each, void *user)
{
    nfi_mlp_type.part.slices(nf_child(o, 0), each, user);
}

static const nf_option options_of_type[] = {{NF_OPTION(NF_OPTION_REAL, nf_lipschitz_options, bound), .most = 1,
                                             .flags = NF_OPTION_ABOVE | NF_OPTION_BELOW,
                                             .help = "of the largest singular value of each layer"}};
static const nf_lipschitz_options defaults = {.bound = 0.97};
static const nf_option_table table = NF_OPTION_TABLE("nf_lipschitz", nf_lipschitz_options, options_of_type, &defaults);

NFI_REBUILD(net, nf_lipschitz_options, nf_lipschitz(nfi_read_net(r, 0, "a bounded net"), q))

const nf_net_type nfi_lipschitz_type = {
    .abi = sizeof(nf_net_type),
    .part = {.name = "lipschitz",
             .prepare = prepare,
             .prepare_vjp = prepare_vjp,
             .init = init,
             .slices = slices,
             .destroy = nfi_free},
    .apply = apply,
    .vjp = vjp,
    .tangent = tangent,
    .tangent_vjp = tangent_vjp,
    .shift_output = shift_output,
    .rebuild = rebuild,
    .options = &table,
};

static nf_status check(const nf_object *net)
{
    if (net->type != &nfi_mlp_type)
        return nf_error(NF_EARG, "nf_lipschitz: `mlp` is a net of type `%s`, but only those of nf_mlp are bounded",
                        net->part->name);
    const nfi_mlp *m = nf_self(net);
    if (m->activation == NF_SWISH)
        return nf_error(NF_EARG,
                        "nf_lipschitz: units of `mlp` are NF_SWISH, whose slope may exceed 1 (see NF_LIPSWISH)");
    if (m->dropout > 0)
        return nf_error(NF_EARG, "nf_lipschitz: `mlp` has dropout %g, which multiplies units by more than 1",
                        m->dropout);
    return NF_OK;
}

/* The net's own numbers; false on overflow. */
static bool count_own(const nfi_mlp *m, nf_shape *own)
{
    bool fits = true;
    own->n_prep = own->n_params;
    for (size_t l = 0; l < m->n_layers && fits; l++) {
        const nfi_dense d = nfi_mlp_layer(m, l);
        fits = nfi_add(own->n_state, d.in, &own->n_state) && nfi_add(own->n_prep, prepared_size(&d), &own->n_prep);
    }
    return fits;
}

nf_net *nf_lipschitz(nf_net *mlp, const nf_lipschitz_options *options)
{
    nf_object *child = nf_net_object(mlp);
    if (!nfi_parts_given("nf_lipschitz", 1, &child, (const char *const[]){"mlp"}))
        return NULL;
    const nf_shape *s = nf_object_shape(child);
    nf_shape own = {.dim_in = s->dim_in, .dim_out = s->dim_out, .n_ctx = s->n_ctx, .n_params = s->n_params};
    nf_lipschitz_options settled;
    nf_lipschitz_options *q = NULL;
    if (check(child) == NF_OK && nf_options_settle(&table, options, &settled) == NF_OK) {
        if (count_own(nf_self(child), &own))
            q = nfi_calloc(1, sizeof *q);
        else
            nf_error(NF_EARG, "nf_lipschitz: the sizes overflow");
    }
    if (!q) {
        nf_net_free(mlp);
        return NULL;
    }
    *q = settled;
    return nfi_net_new_detached(&nfi_lipschitz_type, &own, q, &child, 1, 1);
}
