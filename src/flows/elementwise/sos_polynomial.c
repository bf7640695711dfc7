/* The flow of sum-of-squares polynomials: hooks and options. The formulas are in sos_polynomial_kernels.c. */
#include "flows/elementwise/sos_polynomial.h"
#include "flows/types.h"
#include "math/gauss_legendre.h"
#include "object/options.h"

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

typedef nf_sos_polynomial_options sos;
static const nf_option rows[] = {
    {NF_OPTION(NF_OPTION_SIZE, sos, polynomials), .least = 1, .most = 4096, .help = "K, squares"},
    {NF_OPTION(NF_OPTION_SIZE, sos, degree), .least = 1, .most = 31, .help = "of each polynomial"},
    {NF_OPTION(NF_OPTION_REAL, sos, box), .least = 1e-15, .most = 1e15, .help = "B: straight outside [-B, B]"},
    {NF_OPTION(NF_OPTION_REAL, sos, min_slope), .least = 1e-6, .most = 1, .help = "least slope"}};
static const sos defaults = {.polynomials = 3, .degree = 4, .box = 10, .min_slope = 1e-3};
static const nf_option_table table = NF_OPTION_TABLE("nf_sos_polynomial", sos, rows, &defaults);
NFI_REBUILD(flow, sos, nf_sos_polynomial(nf_read_dim_in(r), q))
static const nf_formula formula = {
    .abi = sizeof(nf_formula), .parameters = "a_c", .forward = nfi_sos_forward, .vjp = nfi_sos_vjp};
const nf_flow_type nfi_sos_polynomial_type = {NF_FORMULA_HOOKS, .part.name = "sos_polynomial", .part.init = init,
                                              .rebuild = rebuild, .options = &table};

nf_flow *nf_sos_polynomial(size_t dim, const nf_sos_polynomial_options *options)
{
    sos f;
    if (nf_options_settle(&table, options, &f) != NF_OK)
        return NULL;
    if (dim > SIZE_MAX / 4096 / NFI_SOS_MOST) {
        nf_error(NF_EARG, "nf_sos_polynomial: `dim` is %zu", dim);
        return NULL;
    }
    nfi_sos q = {
        .options = f, .K = f.polynomials, .n = f.degree + 1, .box = (nf_real)f.box, .min_slope = (nf_real)f.min_slope};
    nfi_gauss_legendre(q.n, q.node, q.weight);
    q.node[q.n] = 1;
    const nf_shape own = {.dim_in = dim, .n_params = dim * (q.K * q.n + 1), .flags = NF_PER_SAMPLE};
    return nf_formula_flow(&nfi_sos_polynomial_type, &formula, &own, &q, sizeof q, NULL, 0);
}
