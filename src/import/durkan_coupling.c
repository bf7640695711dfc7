/* The couplings of nflows, and of normflows by the same code (github.com/bayesiains/nsf):

       identity_features [n_a], transform_features [n_b]
       transform_net.initial_layer. ...           ResidualNet
       unconditional_transform.unnormalized_{widths, heights [n_a x K], derivatives [n_a x K - 1]}

   From data to the base, features b are transformed by what the net makes of features a, and then features a by a
   spline of their own, if there is one. */
#include "import/import.h"
#include <math.h>

/* The net with its last layer in the library's order. */
static nf_net *net_of(nfi_import *im, const char *net, size_t in, size_t n_out, nfi_univariate *u, const char *prefix)
{
    const nfi_linear *last = nfi_take_linear(im, NFI_ANY, NFI_ANY, net, "final_layer.");
    if (!last)
        return NULL;
    if (last->out % n_out || last->out == 0)
        return nfi_import_fail(im, NF_EFORMAT, "tensor '%sbias' has the shape [%zu], expected a multiple of %zu",
                               last->name, last->out, n_out);
    *u = nfi_univariate_of(im, last->out / n_out, prefix);
    u->blocked = u->kind == NFI_AFFINE;
    u->affine = (nf_scaled_affine_options){.scale = NF_SCALE_SIGMOID, .bias = 2, .floor = 1e-3};
    if (u->kind == NFI_SPLINE) {
        nfi_import_durkan(im, u, last->in);
        nfi_import_spline_asked(im, prefix, u->n);
    } else
        nfi_import_is(im, prefix, NF_IMPORT_REALNVP, NF_IMPORT_REALNVP);
    return im->status == NF_OK ? nfi_import_residual_net(im, net, in, nfi_arranged(im, u, last)) : NULL;
}

/* The spline of the features that pass. */
static void unconditional(nfi_import *im, bool from_data, const unsigned char *mask, size_t n, const char *prefix)
{
    const char *own = nfi_name(im, "%sunconditional_transform.unnormalized_", prefix);
    size_t shares[2] = {n, NFI_ANY}, knots[2] = {n, NFI_ANY};
    const double *w = nfi_import_take(im, own, "widths", 2, shares),
                 *h = nfi_import_take(im, own, "heights", 2, shares);
    const double *d = nfi_import_take(im, own, "derivatives", 2, knots);
    if (im->status != NF_OK)
        return;
    const size_t K = shares[1], per_feature = 2 * K + knots[1];
    nfi_univariate u = nfi_univariate_of(im, per_feature, prefix);
    if (u.kind != NFI_SPLINE || u.spline.bins != K) {
        nfi_import_fail(im, NF_EUNSUPPORTED,
                        "'%s...' has %zu widths and %zu slopes a feature, expected one slope more or less", own, K,
                        knots[1]);
        return;
    }
    nfi_import_durkan(im, &u, 0);
    nfi_linear *all = nfi_new_linear(im, 0, n * per_feature, prefix, false);
    for (size_t i = 0; all && i < n; i++)
        for (size_t p = 0; p < per_feature; p++)
            all->b[i * per_feature + p] = p < K       ? w[i * K + p]
                                          : p < 2 * K ? h[i * K + p - K]
                                                      : d[i * knots[1] + p - 2 * K];
    nfi_import_constant(im, from_data, mask, &u, nfi_arranged(im, &u, all), prefix);
}

void nfi_import_durkan_coupling(nfi_import *im, bool from_data, const char *prefix)
{
    size_t n_a = NFI_ANY, n_b = NFI_ANY;
    const size_t most = (size_t)1 << 53;
    const size_t *a = nfi_import_take_indices(im, prefix, "identity_features", &n_a, most);
    const size_t *b = nfi_import_take_indices(im, prefix, "transform_features", &n_b, most);
    if (!a || !b)
        return;
    nfi_import_dim(im, n_a + n_b, prefix);
    bool *seen = nfi_import_memory(im, n_a + n_b, sizeof *seen);
    for (size_t i = 0; seen && i < n_a + n_b; i++) {
        const size_t feature = i < n_a ? a[i] : b[i - n_a];
        if (feature >= n_a + n_b || seen[feature]) {
            nfi_import_fail(
                im, NF_EFORMAT,
                "tensors '%sidentity_features' and '%stransform_features' do not share the features 0 to %zu", prefix,
                prefix, n_a + n_b - 1);
            return;
        }
        seen[feature] = true;
        if (i != 0 && i != n_a && feature < (i < n_a ? a[i - 1] : b[i - n_a - 1]))
            nfi_import_fail(im, NF_EFORMAT, "the features of '%s...' are not in ascending order", prefix);
    }
    const unsigned char *passes = nfi_import_mask(im, n_a, a), *changes = nfi_import_mask(im, n_b, b);
    if (im->status != NF_OK)
        return;
    if (n_b == 0) {
        nfi_import_fail(im, NF_EFORMAT, "tensor '%stransform_features' is empty", prefix);
        return;
    }
    const bool own = nfi_import_has_any(im, prefix, "unconditional_transform.");
    for (int k = 0; k < 2; k++) { /* from the base, features a come first */
        if ((k == 0) == from_data) {
            if (own)
                unconditional(im, from_data, passes, n_a, prefix);
        } else {
            nfi_univariate u = {.n = 1};
            nf_net *net = net_of(im, nfi_name(im, "%stransform_net.", prefix), n_a, n_b, &u, prefix);
            nfi_import_coupling(im, from_data, changes, &u, net, prefix);
        }
    }
}
