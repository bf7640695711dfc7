/* How nets of convolutions begin. Weights are drawn by the fans of their layer, k^2 channels; a layer with weight norm
   begins with g = |v|, times `last_scale` of the last layer. With activation normalisation and initial data, each
   hidden layer that has it is measured when the layers below have begun (Kingma & Dhariwal 2018, sec. 3.1):

       b = -mean,   s = -log(deviation) / 3   over the pixels and samples of each channel of the convolution. */
#include "nn/conv_net.h"
#include "object/tree.h"
#include <math.h>
#include <string.h>

/* The numbers of layer l, drawn with the noise `name`. */
static void draw_layer(const nfi_conv_net *m, size_t l, const nf_noise *name, nf_real *theta)
{
    const nf_conv_options *q = &m->options;
    const nfi_conv_layer s = nfi_conv_layer_of(m, l);
    const size_t fan_in = nfi_conv_fan_in(&s.c), channels = s.is_last ? s.c.out : s.units;
    const bool normed = s.scale_kind == NFI_WEIGHT_NORM;
    nf_real *w = theta + s.weight;
    const nf_activation unit = s.is_last || s.adds || q->gated ? NF_IDENTITY : q->activation;
    nfi_draw_weights(s.adds ? NF_INIT_SMALL : q->init, unit, fan_in + s.n_ctx, s.c.side * s.c.side * channels,
                     s.is_last && !normed ? q->last_scale : 1, name, (fan_in + s.n_ctx) * s.c.out, s.c.out, w);
    for (size_t i = 0; i < s.c.out && normed; i++) {
        double square = 0;
        for (size_t j = i * fan_in; j < (i + 1) * fan_in; j++)
            square += (double)w[j] * (double)w[j];
        theta[s.scale + i] = (nf_real)(sqrt(square) * (s.is_last ? q->last_scale : 1));
    }
    if (s.gate > s.beta)
        theta[s.beta] = nfi_first_beta(q->activation);
    if (s.has_gate) {
        const nfi_dense gate = nfi_conv_gate(m, &s);
        nf_noise of_gate = *name;
        of_gate.step++;
        nfi_dense_init(&gate, q->init, NF_IDENTITY, gate.out, 1, &of_gate, theta + s.gate);
    }
}

/* ---- from data ---- */

/* Sets s and b of a layer from its products z, which had no scale and no bias. A channel that is constant has only its
   mean taken away. */
static nf_status measure(const nfi_conv_layer *s, size_t n, size_t ld, const nf_real *z, nf_real *theta)
{
    const size_t pixels = s->c.grid.height * s->c.grid.width, plane = s->c.grid.pixels * ld;
    const double count = (double)pixels * (double)n;
    for (size_t c = 0; c < s->c.out; c++, z += plane) {
        double mean = 0, variance = 0, largest = 0;
        for (size_t i = 0; i < pixels * ld; i++)
            if (i % ld < n) {
                mean += (double)z[i] / count;
                largest = fmax(largest, fabs((double)z[i]));
            }
        for (size_t i = 0; i < pixels * ld; i++)
            if (i % ld < n)
                variance += ((double)z[i] - mean) * ((double)z[i] - mean) / count;
        const double deviation = sqrt(variance), rounding = sizeof(nf_real) == sizeof(double) ? 1e-12 : 1e-5;
        if (!isfinite((nf_real)mean) || !isfinite(variance))
            return nf_error(NF_ENOTFINITE,
                            "nf_conv_net: channel %zu of a layer has mean %g and variance %g in the initial batch", c,
                            mean, variance);
        theta[s->bias + c] = (nf_real)-mean;
        if (deviation > rounding * largest)
            theta[s->scale + c] = (nf_real)(-log(deviation) / NFI_CONV_SCALE);
    }
    return NF_OK;
}

/* z becomes what the layer's products are with the numbers that it has now; the bias is not among them. */
static void rescale(const nfi_conv_layer *s, size_t ld, const nf_real *theta, nf_real *z)
{
    const size_t plane = s->c.grid.pixels * ld;
    for (size_t c = 0; c < s->c.out; c++, z += plane) {
        const nf_real e = (nf_real)exp(NFI_CONV_SCALE * (double)theta[s->scale + c]);
        for (size_t i = 0; i < plane; i++)
            z[i] *= e;
    }
}

/* The batch's tile goes through the hidden layers, each of which begins before the next one. */
static nf_status begin_from_data(const nfi_conv_net *m, const nf_batch *batch, nf_real *theta, nf_arena *memory)
{
    const size_t ld = batch->ld, plane = m->grid.pixels * ld, most = nfi_conv_kept_most(m);
    const size_t stream = nfi_conv_is_residual(m) ? m->list[0] : 0;
    nf_real *numbers = nf_arena_reals(memory, nfi_conv_layer_of(m, m->n_layers - 1).end, 1);
    nf_real *blocks = nf_arena_reals(memory, 2 * most, ld), *grid = nf_arena_reals(memory, m->read, plane);
    nf_real *h = nf_arena_reals(memory, stream, plane), *bias = nf_arena_reals(memory, stream, 1);
    if (!numbers || !blocks || !grid || !h || !bias)
        return NF_ENOMEM;
    const nf_pass from = {
        .n = batch->n, .ld = ld, .theta = numbers, .prep = numbers, .ctx = batch->ctx, .scratch = memory};
    const nf_pass p = nfi_conv_numbers_pass(m, &from);
    const nf_real *in = grid;
    nf_status status = NF_OK;
    nfi_conv_read(m, ld, batch->x, batch->ctx, grid);
    for (size_t l = 0; l + 1 < m->n_layers && status == NF_OK; l++) {
        const nfi_conv_layer s = nfi_conv_layer_of(m, l);
        const nfi_conv_block b = nfi_conv_block_at(m, &s, &p, blocks + l % 2 * most * ld);
        nf_real *z = nfi_conv_target(&s, &b, h);
        nfi_conv_prepare_layer(&s, theta, numbers);
        status = nfi_conv_products(m, &s, &p, &b, in, z, bias);
        if (s.scale_kind == NFI_EXP_SCALE && status == NF_OK) {
            status = measure(&s, p.n, ld, z, theta);
            rescale(&s, ld, theta, z);
            nfi_conv_prepare_layer(&s, theta, numbers);
            for (size_t i = 0; i < s.c.out && s.in_stream; i++) /* of the first layer: before, the stream had none */
                bias[i] = numbers[s.bias + i];
        }
        nfi_conv_units(m, &s, ld, &b, s.in_stream ? bias : numbers + s.bias, z);
        in = b.u.h;
    }
    return status;
}

/* Each layer has noise of its own, of which the gate's is the second. */
nf_status nfi_conv_net_init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta,
                            nf_real *state)
{
    (void)state;
    const nfi_conv_net *m = nf_self(o);
    nf_noise name = *noise;
    for (size_t l = 0; l < m->n_layers; l++, name.step += 2)
        draw_layer(m, l, &name, theta);
    if (m->options.norm != NF_CONV_ACTNORM || !batch || !batch->x)
        return NF_OK;
    nf_arena memory = {.n_chunks = 0};
    const nf_status status = begin_from_data(m, batch, theta, &memory);
    nfi_arena_clear(&memory);
    return status;
}
