/* Flows of nflows (Durkan, Bekasov, Murray & Papamakarios 2020): transforms from the data to the base,

       _transform._transforms.K.     CompositeTransform, or _transform. alone
           autoregressive_net.       MaskedAffine..., MaskedPiecewiseRationalQuadraticAutoregressiveTransform
           transform_net. ...        Affine..., Additive..., PiecewiseRationalQuadraticCouplingTransform
           _permutation [D]          y[i] = x[permutation[i]]
           lower_entries ...         LULinear;  _weight: NaiveLinear
           unconstrained_weight, bias, running_mean, running_var     BatchNorm, as it is in evaluation
           log_scale, shift          ActNorm;   _scale, _shift: PointwiseAffineTransform
           _transform.               InverseTransform of what follows
       _distribution.                nothing: StandardNormal;  mean_, log_std_ [1 x D]: DiagonalNormal;
                                     _context_encoder.: ConditionalDiagonalNormal with a linear encoder */
#include "import/import.h"
#include <math.h>

static void batch_norm(nfi_import *im, bool from_data, const char *prefix)
{
    const double eps = 1e-5;
    size_t n = NFI_ANY;
    double *weight = nfi_import_take(im, prefix, "unconstrained_weight", 1, &n);
    double *bias = nfi_import_take(im, prefix, "bias", 1, &n),
           *mean = nfi_import_take(im, prefix, "running_mean", 1, &n);
    const double *var = nfi_import_take(im, prefix, "running_var", 1, &n);
    for (size_t i = 0; im->status == NF_OK && i < n; i++) {
        const double w = fmax(weight[i], 0) + log1p(exp(-fabs(weight[i]))) + eps, scale = w / sqrt(var[i] + eps);
        bias[i] -= mean[i] * scale;
        weight[i] = log(scale);
        if (!(var[i] >= 0))
            nfi_import_fail(im, NF_EFORMAT, "tensor '%srunning_var' has the number %g", prefix, var[i]);
    }
    nfi_import_affine(im, from_data, n, 1, bias, weight, prefix);
}

/* Each feature has its shift and scale. */
static void pointwise_affine(nfi_import *im, bool from_data, const char *prefix)
{
    size_t n = NFI_ANY;
    double *given[2];
    for (int k = 0; k < 2; k++) {
        const char *last = k ? "_scale" : "_shift";
        size_t own = NFI_ANY;
        given[k] = nfi_import_take(im, prefix, last, 1, &own);
        if (k && own != n)
            nfi_import_fail(im, NF_EFORMAT, "tensors '%s_shift' and '%s_scale' have %zu and %zu numbers", prefix,
                            prefix, n, own);
        n = own;
    }
    for (size_t i = 0; im->status == NF_OK && i < n; i++) {
        if (!(given[1][i] > 0))
            nfi_import_fail(im, NF_EFORMAT, "tensor '%s_scale' has the number %g", prefix, given[1][i]);
        given[1][i] = log(given[1][i]);
    }
    nfi_import_affine(im, from_data, n, 1, given[0], given[1], prefix);
}

static void nflows_layer(nfi_import *im, bool from_data, const char *prefix)
{
    size_t n = NFI_ANY, square[2] = {NFI_ANY, NFI_ANY};
    const char *net = nfi_name(im, "%sautoregressive_net.", prefix);
    if (nfi_import_has_any(im, net, ""))
        nfi_import_made(im, from_data, true, net, from_data ? NF_IMPORT_MAF : NF_IMPORT_IAF, NF_IMPORT_FAMILY_DEFAULT);
    else if (nfi_import_has_any(im, prefix, "transform_net."))
        nfi_import_durkan_coupling(im, from_data, prefix);
    else if (nfi_import_has(im, prefix, "_permutation")) {
        const size_t *order = nfi_import_take_order(im, prefix, "_permutation", &n);
        nfi_import_permutation(im, from_data, n, order, prefix);
    } else if (nfi_import_has(im, prefix, "lower_entries"))
        nfi_import_lu(im, from_data, prefix);
    else if (nfi_import_has(im, prefix, "_weight")) {
        const double *W = nfi_import_take(im, prefix, "_weight", 2, square),
                     *b = nfi_import_take(im, prefix, "bias", 1, square);
        if (W && square[0] != square[1])
            nfi_import_fail(im, NF_EFORMAT, "tensor '%s_weight' is not square", prefix);
        nfi_import_matrix(im, from_data, im->status == NF_OK ? square[0] : 0, 1, W, b, prefix);
    } else if (nfi_import_has(im, prefix, "unconstrained_weight"))
        batch_norm(im, from_data, prefix);
    else if (nfi_import_has(im, prefix, "log_scale")) {
        const double *s = nfi_import_take(im, prefix, "log_scale", 1, &n),
                     *m = nfi_import_take(im, prefix, "shift", 1, &n);
        nfi_import_skip(im, prefix, "initialized");
        nfi_import_affine(im, from_data, n, 1, m, s, prefix);
    } else if (nfi_import_has(im, prefix, "_scale"))
        pointwise_affine(im, from_data, prefix);
    else
        nfi_import_fail(im, NF_EUNSUPPORTED, "'%s...' is no layer of nflows that the library knows", prefix);
}

static void distribution(nfi_import *im)
{
    size_t row[2] = {1, im->dim};
    nfi_import_skip(im, "_distribution.", "_log_z");
    double *mean = NULL, *log_scale = NULL;
    if (nfi_import_has(im, "_distribution.", "mean_")) {
        mean = nfi_import_take(im, "_distribution.", "mean_", 2, row);
        log_scale = nfi_import_take(im, "_distribution.", "log_std_", 2, row);
    } else if (nfi_import_has_any(im, "_distribution.", "_context_encoder.")) {
        const nfi_linear *l = nfi_take_linear(im, NFI_ANY, 2 * im->dim, "_distribution.", "_context_encoder.");
        if (l)
            nfi_import_conditional_normal(im, im->dim, l->in, l->w, l->b);
        return;
    } else {
        mean = nfi_import_memory(im, im->dim, sizeof *mean);
        log_scale = nfi_import_memory(im, im->dim, sizeof *log_scale);
    }
    nfi_import_normal(im, im->dim, mean, log_scale);
}

void nfi_read_nflows(nfi_import *im)
{
    nfi_import_nested(im, &(nfi_nesting){"_transforms.", "_transform.", nflows_layer}, true, "_transform.", 0);
    if (im->status == NF_OK)
        distribution(im);
}
