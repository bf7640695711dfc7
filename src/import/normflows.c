/* Flows of normflows (Stimper et al. 2023): a list from the base to the data,

       flows.K.   autoregressive_net.                 MaskedAffineAutoregressive
                  mprqat.autoregressive_net.          AutoregressiveRationalQuadraticSpline, from data to base
                  prqct.                              CoupledRationalQuadraticSpline, likewise
                  flows.1.param_map.net.N.            AffineCouplingBlock of an MLP
                  b, s.net.N., t.net.N.               MaskedAffineFlow: y = b x + (1 - b) (x exp(s(b x)) + t(b x))
                  permutation._permutation, linear.   LULinearPermute: first the permutation, from data to base
                  s, t [1 x D]                        ActNorm, AffineConstFlow
                  perm, inv_perm [D]                  Permute;  no tensor at all: Permute(mode="swap")
                  W, or P, L, U, log_S, sign_S        InvertibleAffine, from data to base y = W^T x
                  iresblock.                          Residual
                  w, u, b                             Planar
                  flow., _flows.K.                    Reverse, Composite
       q0.        loc, log_scale [1 x D]              DiagGaussian
                  loc [D x classes], log_scale        ClassCondDiagGaussian
                  weight_scores [1 x K], loc [1 x K x D], log_scale      GaussianMixture */
#include "import/import.h"
#include <nflow/residual.h>
#include <math.h>
#include <string.h>

nfi_univariate nfi_import_normflows_affine(nfi_import *im, size_t n, nf_import_scale by_default, const char *prefix)
{
    nfi_univariate u = nfi_univariate_of(im, n, prefix);
    const nf_import_scale scale = im->options.scale ? im->options.scale : by_default;
    u.affine =
        scale == NF_IMPORT_SCALE_EXP
            ? (nf_scaled_affine_options){.scale = NF_SCALE_EXP}
            : (nf_scaled_affine_options){
                  .scale = scale == NF_IMPORT_SCALE_SIGMOID ? NF_SCALE_INVERSE_SIGMOID : NF_SCALE_SIGMOID, .bias = 2};
    return u;
}

/* Features are split in two halves, of which the first is longer, as torch.chunk does. */
static void coupling_block(nfi_import *im, const char *prefix)
{
    size_t n;
    nfi_linear **l = nfi_take_sequence(im, nfi_name(im, "%sflows.1.param_map.net.", prefix), 0, &n);
    unsigned char *mask = nfi_import_memory(im, im->dim, 1);
    if (!l || !mask)
        return;
    const size_t longer = (im->dim + 1) / 2, shorter = im->dim - longer;
    const bool first = im->options.split == NF_IMPORT_SPLIT_CHANNEL_INV;
    const size_t n_b = first ? longer : shorter, n_a = im->dim - n_b, n_out = l[n - 1]->out;
    for (size_t i = 0; i < im->dim; i++)
        mask[i] = (i < longer) == first;
    if (l[0]->in != n_a || n_b == 0 || (n_out != n_b && n_out != 2 * n_b)) {
        nfi_import_fail(im, NF_EFORMAT,
                        "'%s...' has a net of %zu numbers in and %zu out, expected %zu in and %zu or %zu out", prefix,
                        l[0]->in, n_out, n_a, n_b, 2 * n_b);
        return;
    }
    const nfi_univariate u = nfi_import_normflows_affine(im, n_out / n_b, NF_IMPORT_SCALE_EXP, prefix);
    if (!nfi_import_is(im, prefix, NF_IMPORT_REALNVP, NF_IMPORT_REALNVP))
        return;
    nfi_import_coupling(im, false, mask, &u, nfi_import_mlp(im, n, l, n_a), prefix);
}

/* Puts the columns of `from` that passes, and the rows of it that change (NULL: all), into `to` at that place. */
static void place(const nfi_linear *from, nfi_linear *to, size_t row, size_t step, size_t column, const bool *rows,
                  const bool *columns)
{
    for (size_t k = 0; from && to && k < from->out; k++) {
        if (rows && !rows[k])
            continue;
        to->b[row] = from->b[k];
        for (size_t j = 0, at = column; j < from->in; j++)
            if (!columns || columns[j])
                to->w[row * to->in + at++] = from->w[k * from->in + j];
        row += step;
    }
}

/* Two nets beside one another, of the features that pass, are one: t's outputs and s's take turns. */
static void masked_affine(nfi_import *im, const char *prefix)
{
    const size_t dim = im->dim;
    size_t row[2] = {1, dim}, n[2] = {0, 0}, n_a = 0;
    const double *b = nfi_import_take(im, prefix, "b", 2, row);
    nfi_linear **l[2] = {NULL, NULL};
    for (int k = 0; k < 2; k++)
        if (nfi_import_has_any(im, prefix, k ? "s.net." : "t.net."))
            l[k] = nfi_take_sequence(im, nfi_name(im, "%s%s.net.", prefix, k ? "s" : "t"), 0, &n[k]);
    bool *passes = nfi_import_memory(im, dim, sizeof *passes), *changes = nfi_import_memory(im, dim, sizeof *changes);
    unsigned char *mask = nfi_import_memory(im, dim, 1);
    const size_t depth = n[0] ? n[0] : n[1];
    nfi_linear **both = nfi_import_memory(im, depth + 1, sizeof *both);
    if (!b || !both || !mask)
        return;
    if (depth == 0 || (n[0] && n[1] && n[0] != n[1])) {
        nfi_import_fail(im, NF_EUNSUPPORTED, "'%s...': the nets t and s have %zu and %zu layers, expected equally many",
                        prefix, n[0], n[1]);
        return;
    }
    for (size_t i = 0; i < dim; i++) {
        passes[i] = fabs(b[i]) > 0;
        changes[i] = !passes[i];
        mask[i] = changes[i];
        n_a += passes[i];
        if (passes[i] && fabs(b[i] - 1) > 0)
            nfi_import_fail(im, NF_EFORMAT, "tensor '%sb' has the number %g, expected 0 or 1", prefix, b[i]);
    }
    for (int k = 0; k < 2 && im->status == NF_OK; k++)
        if (l[k] && (l[k][0]->in != dim || l[k][depth - 1]->out != dim))
            nfi_import_fail(im, NF_EFORMAT, "'%s%s.net...' has %zu numbers in and %zu out, expected %zu", prefix,
                            k ? "s" : "t", l[k][0]->in, l[k][depth - 1]->out, dim);
    for (size_t i = 0; i < depth && im->status == NF_OK; i++) {
        const bool first = i == 0, last = i + 1 == depth;
        const size_t out = l[0] ? l[0][i]->out : 0, in = l[0] ? l[0][i]->in : 0;
        both[i] = nfi_new_linear(im, first ? n_a : in + (l[1] ? l[1][i]->in : 0),
                                 last ? 2 * (dim - n_a) : out + (l[1] ? l[1][i]->out : 0), prefix, false);
        for (size_t k = 0; k < 2; k++)
            if (l[k])
                place(l[k][i], both[i], last ? k : k * out, last ? 2 : 1, first ? 0 : k * in, last ? changes : NULL,
                      first ? passes : NULL);
    }
    nfi_univariate u = {.kind = NFI_AFFINE, .n = 2};
    if (nfi_import_is(im, prefix, NF_IMPORT_REALNVP, NF_IMPORT_REALNVP))
        nfi_import_coupling(im, false, mask, &u, nfi_import_mlp(im, depth, both, n_a), prefix);
}

static void permutation(nfi_import *im, bool from_data, const char *prefix)
{
    size_t n;
    const size_t *order = nfi_import_take_order(im, prefix, "perm", &n);
    nfi_import_skip(im, prefix, "inv_perm");
    nfi_import_permutation(im, from_data, n, order, prefix);
}

static void swap(nfi_import *im, bool from_data, const char *prefix)
{
    size_t *order = nfi_import_memory(im, im->dim, sizeof *order);
    for (size_t i = 0; order && i < im->dim; i++)
        order[i] = (i + im->dim / 2) % im->dim;
    nfi_import_permutation(im, from_data, im->dim, order, prefix);
}

static void lu_permute(nfi_import *im, bool from_data, const char *prefix)
{
    for (int k = 0; k < 2; k++)
        if ((k == 0) == from_data)
            nfi_import_lu(im, from_data, nfi_name(im, "%slinear.", prefix));
        else {
            size_t n;
            const char *own = nfi_name(im, "%spermutation.", prefix);
            const size_t *order = nfi_import_take_order(im, own, "_permutation", &n);
            nfi_import_permutation(im, from_data, n, order, own);
        }
}

void nfi_import_normflows_actnorm(nfi_import *im, bool from_data, size_t channels, size_t n_pixels, bool image,
                                  const char *prefix)
{
    size_t row[4] = {1, channels, 1, 1}, rank = image ? 4 : 2;
    const double *s = nfi_import_take(im, prefix, "s", rank, row), *t = nfi_import_take(im, prefix, "t", rank, row);
    if (nfi_import_has(im, prefix, "data_dep_init_done")) {
        const double *done = nfi_import_take(im, prefix, "data_dep_init_done", 0, NULL);
        if (done && !(*done > 0))
            nfi_import_fail(im, NF_EUNSUPPORTED, "'%s...' has not been initialised: it waits for its first batch",
                            prefix);
    }
    nfi_import_affine(im, from_data, channels, n_pixels, t, s, prefix);
}

static void matrix(nfi_import *im, bool from_data, const char *prefix)
{
    size_t n;
    const double *W = nfi_import_take_matrix(im, prefix, &n);
    double *T = nfi_import_memory(im, W ? n * n : 0, sizeof *T);
    for (size_t i = 0; W && T && i < n * n; i++)
        T[i] = W[i % n * n + i / n];
    if (W)
        nfi_import_matrix(im, from_data, n, 1, T, NULL, prefix);
}

static void planar(nfi_import *im, bool from_data, const char *prefix)
{
    size_t row[2] = {1, im->dim}, one = 1;
    const double *w = nfi_import_take(im, prefix, "w", 2, row), *u = nfi_import_take(im, prefix, "u", 2, row);
    const double *b = nfi_import_take(im, prefix, "b", 1, &one);
    if (im->status != NF_OK)
        return;
    nfi_put(im, im->dim, w);
    nfi_put(im, im->dim, u);
    nfi_put(im, 1, b);
    nfi_import_add(im, from_data, nf_planar(im->dim), prefix);
}

/* As it stands a layer goes from the base to the data; `reversed`, the other way round. */
static void normflows_layer(nfi_import *im, bool reversed, const char *prefix)
{
    const char *net = nfi_name(im, "%sautoregressive_net.", prefix), *spline = nfi_name(im, "%smprqat.", prefix);
    if (nfi_import_has_any(im, net, ""))
        nfi_import_made(im, reversed, false, net, NF_IMPORT_MAF, NF_IMPORT_IAF);
    else if (nfi_import_has_any(im, spline, ""))
        nfi_import_made(im, !reversed, false, nfi_name(im, "%sautoregressive_net.", spline), NF_IMPORT_NSF,
                        NF_IMPORT_NSF);
    else if (nfi_import_has_any(im, prefix, "prqct."))
        nfi_import_durkan_coupling(im, !reversed, nfi_name(im, "%sprqct.", prefix));
    else if (nfi_import_has_any(im, prefix, "transform_net."))
        nfi_import_durkan_coupling(im, reversed, prefix);
    else if (nfi_import_has_any(im, prefix, "linear."))
        lu_permute(im, !reversed, prefix);
    else if (nfi_import_has(im, prefix, "perm"))
        permutation(im, reversed, prefix);
    else if (nfi_import_has(im, prefix, "W") || nfi_import_has(im, prefix, "log_S"))
        matrix(im, !reversed, prefix);
    else if (nfi_import_has(im, prefix, "s") && nfi_import_has(im, prefix, "t"))
        nfi_import_normflows_actnorm(im, reversed, im->dim, 1, false, prefix);
    else if (nfi_import_has(im, prefix, "w"))
        planar(im, reversed, prefix);
    else if (reversed)
        nfi_import_fail(im, NF_EUNSUPPORTED, "'%s...' is no layer that the library knows inside of Reverse", prefix);
    else if (nfi_import_has_any(im, prefix, "flows.1.param_map.net."))
        coupling_block(im, prefix);
    else if (nfi_import_has(im, prefix, "b"))
        masked_affine(im, prefix);
    else if (nfi_import_has_any(im, prefix, "iresblock."))
        nfi_import_residual(im, prefix);
    else
        nfi_import_fail(im, NF_EUNSUPPORTED, "'%s...' is no layer of normflows that the library knows", prefix);
}

static void mixture(nfi_import *im)
{
    size_t all[3] = {1, NFI_ANY, NFI_ANY};
    const double *loc = nfi_import_take(im, "q0.", "loc", 3, all), *s = nfi_import_take(im, "q0.", "log_scale", 3, all);
    const double *logits = nfi_import_take(im, "q0.", "weight_scores", 2, all);
    if (im->status != NF_OK)
        return;
    if (all[1] == 0)
        nfi_import_fail(im, NF_EFORMAT, "tensor 'q0.loc' is of no mode");
    nfi_import_dim(im, all[2], "q0.");
    nfi_import_put(im, &im->base_theta, all[1], logits);
    nfi_import_put(im, &im->base_theta, all[1] * all[2], loc);
    nfi_import_put(im, &im->base_theta, all[1] * all[2], s);
    im->n_modes = all[1];
}

static void read_base(nfi_import *im)
{
    if (nfi_import_has(im, "q0.", "weight_scores")) {
        mixture(im);
        return;
    }
    size_t row[2] = {NFI_ANY, NFI_ANY};
    const double *loc = nfi_import_take(im, "q0.", "loc", 2, row), *s = nfi_import_take(im, "q0.", "log_scale", 2, row);
    if (!loc || !s)
        return;
    if (row[0] == 1 && row[1] > 0) {
        nfi_import_dim(im, row[1], "q0.");
        nfi_import_normal(im, im->dim, loc, s);
        return;
    }
    nfi_import_dim(im, row[0], "q0.");
    nfi_linear *l = im->status == NF_OK ? nfi_new_linear(im, row[1], 2 * row[0], "q0.", false) : NULL;
    if (!l)
        return;
    memcpy(l->w, loc, row[0] * row[1] * sizeof *loc);
    memcpy(l->w + row[0] * row[1], s, row[0] * row[1] * sizeof *s);
    nfi_import_conditional_normal(im, im->dim, row[1], l->w, l->b);
}

void nfi_read_normflows(nfi_import *im)
{
    if (nfi_import_has_any(im, "q0.0.", "")) {
        nfi_read_multiscale(im);
        return;
    }
    size_t *index, next = 0;
    read_base(im);
    const size_t n = nfi_import_children(im, "flows.", "", &index), least = n ? index[n - 1] + 1 : 0;
    const size_t n_flows = im->options.n_flows ? im->options.n_flows : n;
    if (im->status != NF_OK)
        return;
    if (n_flows < least || n_flows - n > least + 1) {
        nfi_import_fail(
            im, NF_EFORMAT,
            im->options.n_flows
                ? "the option `n_flows` is %zu, but flow %zu is the last of %zu with tensors"
                : "%zu flows have tensors, but the last one is flow %zu of at least %zu: some have none. Those "
                  "are taken for swaps if the option `n_flows` says how many flows there are",
            n_flows, least ? least - 1 : 0, im->options.n_flows ? n : least);
        return;
    }
    for (size_t i = 0; i < n_flows && im->status == NF_OK; i++) {
        const char *prefix = nfi_name(im, "flows.%zu.", i);
        if (next < n && index[next] == i) {
            next++;
            nfi_import_nested(im, &(nfi_nesting){"_flows.", "flow.", normflows_layer}, false, prefix, 0);
        } else
            swap(im, false, prefix);
    }
}
