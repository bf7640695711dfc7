/* The flow of sum-of-squares polynomials: hooks and options. The formulas are in sos_polynomial_kernels.c. */
#include "flows/elementwise/sos_polynomial.h"
#include "flows/types.h"
#include "math/gauss_legendre.h"
#include "object/fields.h"

/* Near the identity, but no two polynomials alike: equal ones would have equal gradients for ever. */
static nf_status init(const nf_object *o, const nf_noise *noise, const nf_batch *batch, nf_real *theta, nf_real *state)
{
    (void)batch, (void)state;
    const nfi_sos *q = nf_formula_options(o);
    const size_t n = nf_object_shape(o)->n_params, each = q->K * q->n + 1;
    nf_noise_normal(noise, n, 1, 1, theta);
    for (size_t i = 0; i < n; i++)
        theta[i] *= i % each + 1 < each ? NF_R(0.03) : 0;
    return NF_OK;
}

static nf_status describe(const nf_object *o, nf_writer *w)
{
    const nf_sos_polynomial_options *q = &((const nfi_sos *)nf_formula_options(o))->options;
    nf_status status = nf_write_integer(w, "polynomials", q->polynomials);
    if (status == NF_OK)
        status = nf_write_integer(w, "degree", q->degree);
    if (status == NF_OK)
        status = nf_write_number(w, "box", q->box);
    return status == NF_OK ? nf_write_number(w, "min_slope", q->min_slope) : status;
}

static nf_flow *rebuild(nf_reader *r)
{
    nf_sos_polynomial_options q = {.degree = 0};
    if (nfi_maybe_size(r, "polynomials", &q.polynomials) != NF_OK || nfi_maybe_size(r, "degree", &q.degree) != NF_OK ||
        nfi_maybe_number(r, "box", &q.box) != NF_OK || nfi_maybe_number(r, "min_slope", &q.min_slope) != NF_OK)
        return NULL;
    return nf_sos_polynomial(nf_read_dim_in(r), &q);
}

static const nf_formula formula = {
    .abi = sizeof(nf_formula), .parameters = "a_c", .forward = nfi_sos_forward, .vjp = nfi_sos_vjp};
const nf_flow_type nfi_sos_polynomial_type = {NF_FORMULA_HOOKS, .part.name = "sos_polynomial", .part.init = init,
                                              .part.describe = describe, .rebuild = rebuild};

nf_flow *nf_sos_polynomial(size_t dim, const nf_sos_polynomial_options *options)
{
    nf_sos_polynomial_options f = options ? *options : (nf_sos_polynomial_options){.degree = 0};
    f.polynomials = f.polynomials ? f.polynomials : 3;
    f.degree = f.degree ? f.degree : 4;
    f.box = f.box != 0 ? f.box : 10;
    f.min_slope = f.min_slope != 0 ? f.min_slope : 1e-3;
    if (f.degree >= NFI_SOS_MOST - 1 || f.polynomials > 4096 || dim > SIZE_MAX / 4096 / NFI_SOS_MOST ||
        !(f.box > 1e-15 && f.box < 1e15) || !(f.min_slope >= 1e-6 && f.min_slope <= 1)) { /* NaN fails */
        nf_error(NF_EARG, "nf_sos_polynomial: `dim` is %zu, `polynomials` %zu, `degree` %zu, `box` %g, `min_slope` %g",
                 dim, f.polynomials, f.degree, f.box, f.min_slope);
        return NULL;
    }
    nfi_sos q = {
        .options = f, .K = f.polynomials, .n = f.degree + 1, .box = (nf_real)f.box, .min_slope = (nf_real)f.min_slope};
    nfi_gauss_legendre(q.n, q.node, q.weight);
    q.node[q.n] = 1;
    const nf_shape own = {.dim_in = dim, .n_params = dim * (q.K * q.n + 1), .flags = NF_PER_SAMPLE};
    return nf_formula_flow(&nfi_sos_polynomial_type, &formula, &own, &q, sizeof q, NULL, 0);
}
