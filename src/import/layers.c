/* The model in the making: flows from the base to the data, and the numbers of all of them one after the other, which
   is the theta of a chain. A base that is not the standard normal is one with an affine flow in front of the others. */
#include "import/import.h"
#include <math.h>
#include <string.h>

enum { MOST_NESTED = 16 }; /* lists and inverses inside of one another */

void nfi_import_put(nfi_import *im, nfi_numbers *to, size_t n, const double *from)
{
    if (im->status != NF_OK)
        return;
    if (n > im->most || to->n > im->most - n) {
        nfi_import_fail(im, NF_EFORMAT, "the model would have more than %d times as many numbers as the file",
                        (int)NF_IMPORT_MOST_NUMBERS);
        return;
    }
    if (to->n + n > to->room) {
        const size_t room = 2 * (to->n + n);
        nf_real *at = nfi_import_memory(im, room, sizeof *at);
        if (!at)
            return;
        if (to->n)
            memcpy(at, to->at, to->n * sizeof *at);
        to->at = at;
        to->room = room;
    }
    for (size_t i = 0; i < n; i++)
        to->at[to->n++] = (nf_real)from[i];
}

void nfi_import_dim(nfi_import *im, size_t dim, const char *prefix)
{
    if (im->dim && im->dim != dim)
        nfi_import_fail(im, NF_EFORMAT, "'%s...' is of %zu features, expected %zu", prefix, dim, im->dim);
    else if (dim == 0)
        nfi_import_fail(im, NF_EFORMAT, "'%s...' is of no feature", prefix);
    else
        im->dim = dim;
}

/* Takes the reason of a constructor that has failed. */
static void constructor_failed(nfi_import *im, const char *prefix)
{
    if (im->status == NF_OK) {
        char reason[256];
        strncpy(reason, nf_error_message(), sizeof reason - 1);
        reason[sizeof reason - 1] = 0;
        nfi_import_fail(im, nf_error_status(), "'%s...': %s", prefix, reason);
    }
}

void nfi_import_add(nfi_import *im, bool from_data, nf_flow *flow, const char *prefix)
{
    if (!flow)
        constructor_failed(im, prefix);
    if (im->status == NF_OK && im->n_flows == im->room) {
        const size_t room = 2 * im->room + 16;
        nf_flow **list = nfi_import_memory(im, room, sizeof *list);
        if (list && im->n_flows)
            memcpy(list, im->flow, im->n_flows * sizeof *list);
        if (list) {
            im->flow = list;
            im->room = room;
        }
    }
    if (im->status != NF_OK) {
        nf_flow_free(flow);
        return;
    }
    nf_flow *turned = from_data ? nf_invert(flow) : flow;
    if (!turned) {
        constructor_failed(im, prefix);
        return;
    }
    im->flow[im->n_flows++] = turned;
}

void nfi_import_nested(nfi_import *im, const nfi_nesting *q, bool from_data, const char *prefix, size_t depth)
{
    const char *list = nfi_name(im, "%s%s", prefix, q->list);
    if (depth > MOST_NESTED)
        nfi_import_fail(im, NF_EFORMAT, "'%s...': layers nest too deeply", prefix);
    if (im->status != NF_OK)
        return;
    if (nfi_import_has_any(im, list, "")) {
        const size_t n = nfi_import_list(im, list, "", 1);
        for (size_t i = 0; i < n; i++)
            nfi_import_nested(im, q, from_data, nfi_name(im, "%s%zu.", list, from_data ? n - 1 - i : i), depth + 1);
    } else if (nfi_import_has_any(im, prefix, q->inverse))
        nfi_import_nested(im, q, !from_data, nfi_name(im, "%s%s", prefix, q->inverse), depth + 1);
    else
        q->layer(im, from_data, prefix);
}

bool nfi_import_is(nfi_import *im, const char *prefix, nf_import_family family, nf_import_family other)
{
    static const char *const names[] = {"",
                                        "an affine or additive coupling",
                                        "an autoregressive affine layer",
                                        "an inverted autoregressive affine layer",
                                        "a spline",
                                        "a layer of Glow",
                                        "a residual block"};
    const nf_import_family asked = im->options.family;
    if (asked && asked != family && asked != other)
        nfi_import_fail(im, NF_EFORMAT, "'%s...' is %s, which is not of the family that was asked for", prefix,
                        names[family]);
    return im->status == NF_OK;
}

void nfi_import_normal(nfi_import *im, size_t dim, const double *mean, const double *log_scale)
{
    if (im->status != NF_OK)
        return;
    bool standard = true;
    for (size_t i = 0; i < dim; i++)
        standard = standard && fabs(mean[i]) <= 0 && fabs(log_scale[i]) <= 0;
    if (standard)
        return;
    nfi_import_put(im, &im->base_theta, dim, mean);
    nfi_import_put(im, &im->base_theta, dim, log_scale);
    im->base = nf_affine(dim);
    if (!im->base)
        constructor_failed(im, "the base");
}

void nfi_import_conditional_normal(nfi_import *im, size_t dim, size_t n_ctx, const double *w, const double *b)
{
    if (im->status != NF_OK)
        return;
    nfi_import_put(im, &im->base_theta, 2 * dim * n_ctx, w);
    nfi_import_put(im, &im->base_theta, 2 * dim, b);
    im->base = nf_amortized(nf_affine(dim), nf_mlp(n_ctx, 2 * dim, 0, NULL));
    if (!im->base)
        constructor_failed(im, "the base");
}

/* Copies the numbers, which must be as many as the model has. */
static void fill(nfi_import *im, nf_model *m)
{
    const nf_shape *s = nf_model_shape(m);
    const size_t n_base = im->base_theta.n;
    if (s->n_params != n_base + im->theta.n) {
        nfi_import_fail(im, NF_EFORMAT, "the flow has %zu parameters, but %zu numbers were read", s->n_params,
                        n_base + im->theta.n);
        return;
    }
    nf_real *theta = nf_model_theta(m);
    if (n_base)
        memcpy(theta, im->base_theta.at, n_base * sizeof *theta);
    if (im->theta.n)
        memcpy(theta + n_base, im->theta.at, im->theta.n * sizeof *theta);
    if (nf_model_update(m, NF_EVAL) != NF_OK)
        constructor_failed(im, "the model");
}

/* All flows in a chain, with that of the base in front. */
static nf_flow *chain(nfi_import *im)
{
    nf_flow *f[2] = {im->base, im->n_flows == 1 ? im->flow[0] : nf_chain(im->flow, im->n_flows)};
    im->n_flows = 0;
    im->base = NULL;
    return f[0] ? nf_chain(f, 2) : f[1];
}

nf_model *nfi_import_finish(nfi_import *im)
{
    if (im->status == NF_OK && im->n_flows == 0)
        nfi_import_fail(im, NF_EFORMAT, "there is no flow");
    if (im->status != NF_OK)
        return NULL;
    nf_dist *base = im->n_modes ? nf_mixture(im->dim, im->n_modes) : nf_normal(im->dim);
    nf_model *m = nf_model_of_dist(nf_pushforward(base, chain(im)), NULL);
    if (!m)
        constructor_failed(im, "the whole");
    else
        fill(im, m);
    if (im->status != NF_OK) {
        nf_model_free(m);
        return NULL;
    }
    return m;
}

void nfi_import_end(nfi_import *im)
{
    for (size_t i = 0; i < im->n_flows; i++)
        nf_flow_free(im->flow[i]);
    nf_flow_free(im->base);
    nfi_container_free(&im->file);
    nfi_import_free_memory(im);
}
