/* Scales of convolutions. Passes read the weights and biases with the scales already in them. They are made once a step
   from the parameters, channel by channel, and have the places of the parameters:

       weight norm (Salimans & Kingma 2016, eq. 2)   W' = g v / |v|,           gg = <G, v> / |v|,
                                                     gv = g / |v| (G - <G, v> / |v|^2 v);
       exponential scale (Kingma & Dhariwal 2018)    (W, U, b)' = e (W, U, b),   e = exp(3 s),
                                                     g(W, U, b) = e G,   gs = 3 <G, (W, U, b)'>,

   where G is the gradient in the primed numbers. The 3 is the authors' (their code's logscale_factor): it makes s move
   faster. A tile's pass thereby costs the same as without scales. */
#include "nn/conv_net.h"
#include "nn/lipschitz.h"
#include "object/tree.h"
#include <math.h>
#include <string.h>

/* Rows of W, U and b of one output channel. */
typedef struct channel {
    size_t weight, n_weights, context, bias;
} channel;

static channel channel_of(const nfi_conv_layer *s, size_t i)
{
    const size_t n = nfi_conv_fan_in(&s->c);
    return (channel){
        .weight = s->weight + i * n, .n_weights = n, .context = s->context + i * s->n_ctx, .bias = s->bias + i};
}

static double dot(size_t n, const nf_real *a, const nf_real *b)
{
    return nfi_matrix_dot(1, n, n, a, b);
}

/* 1 / x; 0 for 0, so that weights without a direction count as 0. */
static double inverse(double x)
{
    return x > 0 ? 1 / x : 0;
}

static void scale(size_t n, double factor, nf_real *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (nf_real)(factor * (double)x[i]);
}

void nfi_conv_prepare_layer(const nfi_conv_layer *s, const nf_real *theta, nf_real *prep)
{
    memcpy(prep + s->weight, theta + s->weight, (s->end - s->weight) * sizeof *prep);
    for (size_t i = 0; i < s->c.out && s->scale_kind; i++) {
        const channel c = channel_of(s, i);
        const double number = (double)theta[s->scale + i];
        if (s->scale_kind == NFI_WEIGHT_NORM) {
            const nf_real *v = theta + c.weight;
            scale(c.n_weights, number * inverse(sqrt(dot(c.n_weights, v, v))), prep + c.weight);
        } else {
            const double e = exp(NFI_CONV_SCALE * number);
            scale(c.n_weights, e, prep + c.weight);
            scale(s->n_ctx, e, prep + c.context);
            scale(1, e, prep + c.bias);
        }
    }
}

nf_status nfi_conv_net_prepare(const nf_object *o, nf_mode mode, const nf_real *theta, nf_real *state, nf_real *prep)
{
    (void)mode, (void)state;
    const nfi_conv_net *m = nf_self(o);
    for (size_t l = 0; l < m->n_layers; l++) {
        const nfi_conv_layer s = nfi_conv_layer_of(m, l);
        nfi_conv_prepare_layer(&s, theta, prep);
    }
    return NF_OK;
}

/* Turns G, the gradient in the numbers of one channel, into that of the parameters. */
static void weight_norm_vjp(const nfi_conv_layer *s, size_t i, const nf_real *theta, nf_real *G)
{
    const channel c = channel_of(s, i);
    const nf_real *v = theta + c.weight;
    const double of_norm = inverse(sqrt(dot(c.n_weights, v, v))), along = dot(c.n_weights, v, G + c.weight) * of_norm;
    const double factor = (double)theta[s->scale + i] * of_norm;
    for (size_t j = 0; j < c.n_weights; j++)
        G[c.weight + j] = (nf_real)(factor * ((double)G[c.weight + j] - along * of_norm * (double)v[j]));
    G[s->scale + i] = (nf_real)along;
}

static void exp_scale_vjp(const nfi_conv_layer *s, size_t i, const nf_real *theta, nf_real *G)
{
    const channel c = channel_of(s, i);
    const double e = exp(NFI_CONV_SCALE * (double)theta[s->scale + i]);
    const double along = dot(c.n_weights, theta + c.weight, G + c.weight) +
                         dot(s->n_ctx, theta + c.context, G + c.context) + (double)theta[c.bias] * (double)G[c.bias];
    scale(c.n_weights, e, G + c.weight);
    scale(s->n_ctx, e, G + c.context);
    scale(1, e, G + c.bias);
    G[s->scale + i] = (nf_real)(NFI_CONV_SCALE * e * along);
}

nf_status nfi_conv_net_prepare_vjp(const nf_object *o, const nf_real *theta, const nf_real *state, const nf_real *prep,
                                   nf_real *g_prep, nf_real *g_theta)
{
    (void)state, (void)prep;
    const nfi_conv_net *m = nf_self(o);
    for (size_t l = 0; l < m->n_layers; l++) {
        const nfi_conv_layer s = nfi_conv_layer_of(m, l);
        for (size_t i = 0; i < s.c.out && s.scale_kind; i++)
            (s.scale_kind == NFI_WEIGHT_NORM ? weight_norm_vjp : exp_scale_vjp)(&s, i, theta, g_prep);
        for (size_t i = s.weight; i < s.end; i++)
            g_theta[i] += g_prep[i];
    }
    return NF_OK;
}
