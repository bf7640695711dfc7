/* Units y = f(z), z = x + bias. Slopes and second derivatives are computed from the output y, so that a net keeps only
   one array per layer:

       f         y                    f'              f''
       relu      max(0, z)            [y > 0]         0
       leaky     z or z / 100         1 or 1 / 100    0
       elu       z or e^z - 1         1 or y + 1      0 or y + 1       (Clevert et al. 2016, eq. 14-15)
       tanh      tanh z               1 - y^2         -2 y (1 - y^2)
       softplus  log(1 + e^z)         1 - e^-y        (1 - e^-y) e^-y
       sigmoid   1 / (1 + e^-z)       y (1 - y)       y (1 - y) (1 - 2 y)

   At a kink f'' is 0. Comparisons are written so that a NaN passes through. */
#include "nn/activation.h"
#include "math/vec.h"

#define NFI_UNITS(X)                                                                                \
    X(NF_RELU, relu, (z < 0) ? 0 : z, (y > 0) ? 1 : 0, 0)                                           \
    X(NF_TANH, tanh, nfi_tanh(z), 1 - y * y, -2 * y * (1 - y * y))                                  \
    X(NF_LEAKY_RELU, leaky_relu, z < 0 ? NF_R(0.01) * z : z, y < 0 ? NF_R(0.01) : 1, 0)             \
    X(NF_ELU, elu, z < 0 ? nfi_expm1(z) : z, y < 0 ? y + 1 : 1, y < 0 ? y + 1 : 0)                  \
    X(NF_SOFTPLUS, softplus, nfi_softplus(z), -nfi_expm1(-y), -nfi_expm1(-y) * (nfi_expm1(-y) + 1)) \
    X(NF_SIGMOID, sigmoid, nfi_sigmoid(z), (1 - y) * y, (1 - y) * y * (1 - 2 * y))                  \
    X(NF_IDENTITY, identity, z, 1, 0)

#define NFI_UNIT_DERIVATIVE(name, derivative)                                   \
    NFI_INLINE void name(size_t n, nf_real share, const nf_real *h, nf_real *d) \
    {                                                                           \
        n = nfi_lanes(n);                                                       \
        NFI_SIMD                                                                \
        for (size_t i = 0; i < n; i++) {                                        \
            nf_real y = share * h[i];                                           \
            (void)y;                                                            \
            d[i] = (derivative);                                                \
        }                                                                       \
    }
/* For each vector of samples all directions one after the other, so that derivatives stay in registers. */
#define NFI_UNIT_TANGENTS(name, slope, curve)                                                                          \
    NFI_INLINE void name##_tangent(size_t rows, size_t k, size_t ld, const nf_real *h, const nf_real *dz, nf_real *dh) \
    {                                                                                                                  \
        ld = nfi_lanes(ld);                                                                                            \
        for (size_t r = 0; r < rows; r++)                                                                              \
            for (size_t s = 0; s < ld; s += NFI_LANES) {                                                               \
                nf_real first[NFI_LANES];                                                                              \
                NFI_SIMD                                                                                               \
                for (size_t i = 0; i < NFI_LANES; i++) {                                                               \
                    const nf_real y = h[r * ld + s + i];                                                               \
                    (void)y;                                                                                           \
                    first[i] = (slope);                                                                                \
                }                                                                                                      \
                for (size_t at = r * k * ld + s; at < (r + 1) * k * ld; at += ld) {                                    \
                    NFI_SIMD                                                                                           \
                    for (size_t i = 0; i < NFI_LANES; i++)                                                             \
                        dh[at + i] = first[i] * dz[at + i];                                                            \
                }                                                                                                      \
            }                                                                                                          \
    }                                                                                                                  \
    NFI_INLINE void name##_tangent_vjp(size_t rows, size_t k, size_t ld, const nf_real *h, const nf_real *dz,          \
                                       const nf_real *gh, const nf_real *gdh, nf_real *gz, nf_real *gdz)               \
    {                                                                                                                  \
        ld = nfi_lanes(ld);                                                                                            \
        for (size_t r = 0; r < rows; r++)                                                                              \
            for (size_t s = 0; s < ld; s += NFI_LANES) {                                                               \
                nf_real first[NFI_LANES], second[NFI_LANES], sum[NFI_LANES];                                           \
                NFI_SIMD                                                                                               \
                for (size_t i = 0; i < NFI_LANES; i++) {                                                               \
                    const nf_real y = h[r * ld + s + i];                                                               \
                    (void)y;                                                                                           \
                    first[i] = (slope);                                                                                \
                    second[i] = (curve);                                                                               \
                    sum[i] = 0;                                                                                        \
                }                                                                                                      \
                for (size_t at = r * k * ld + s; at < (r + 1) * k * ld; at += ld) {                                    \
                    NFI_SIMD                                                                                           \
                    for (size_t i = 0; i < NFI_LANES; i++) {                                                           \
                        const nf_real g = gdh[at + i];                                                                 \
                        sum[i] += dz[at + i] * g;                                                                      \
                        gdz[at + i] = first[i] * g;                                                                    \
                    }                                                                                                  \
                }                                                                                                      \
                NFI_SIMD                                                                                               \
                for (size_t i = 0; i < NFI_LANES; i++)                                                                 \
                    gz[r * ld + s + i] = first[i] * gh[r * ld + s + i] + second[i] * sum[i];                           \
            }                                                                                                          \
    }
#define NFI_UNIT_LOOPS(tag, name, value, slope, curve)                                                        \
    NFI_INLINE void name##_forward(size_t rows, size_t ld, const nf_real *bias, const nf_real *x, nf_real *y) \
    {                                                                                                         \
        ld = nfi_lanes(ld);                                                                                   \
        for (size_t r = 0; r < rows; r++) {                                                                   \
            const nf_real b = bias[r], *in = x + r * ld;                                                      \
            nf_real *out = y + r * ld;                                                                        \
            NFI_SIMD                                                                                          \
            for (size_t s = 0; s < ld; s++) {                                                                 \
                nf_real z = in[s] + b;                                                                        \
                out[s] = value;                                                                               \
            }                                                                                                 \
        }                                                                                                     \
    }                                                                                                         \
    NFI_INLINE void name##_slopes(size_t rows, size_t ld, const nf_real *out, const nf_real *g_out, bool add, \
                                  nf_real *g, nf_real *g_bias)                                                \
    {                                                                                                         \
        ld = nfi_lanes(ld);                                                                                   \
        for (size_t r = 0; r < rows; r++) {                                                                   \
            NFI_SIMD                                                                                          \
            for (size_t s = r * ld; s < (r + 1) * ld; s++) {                                                  \
                nf_real y = out[s];                                                                           \
                (void)y;                                                                                      \
                g[s] = add ? g[s] + g_out[s] * (slope) : g_out[s] * (slope);                                  \
            }                                                                                                 \
            if (g_bias)                                                                                       \
                g_bias[r] += nfi_row_sum(ld, g + r * ld);                                                     \
        }                                                                                                     \
    }                                                                                                         \
    NFI_UNIT_DERIVATIVE(name##_first, slope)                                                                  \
    NFI_UNIT_DERIVATIVE(name##_second, curve)                                                                 \
    NFI_UNIT_TANGENTS(name, slope, curve)
NFI_UNITS(NFI_UNIT_LOOPS)

/* Units that keep their argument have kernels of their own (swish.h), and settled options have no defaults, so these
   names never come here. */
#define NFI_NOT_HERE            \
    case NF_SWISH:              \
    case NF_LIPSWISH:           \
    case NF_ACTIVATION_DEFAULT: \
        break;

void nfi_activate_to(nf_activation f, size_t rows, size_t ld, const nf_real *bias, const nf_real *x, nf_real *y)
{
    switch (f) {
#define NFI_UNIT_CASE(tag, name, value, slope, curve) \
    case tag:                                         \
        name##_forward(rows, ld, bias, x, y);         \
        break;
        NFI_UNITS(NFI_UNIT_CASE)
        NFI_NOT_HERE
    }
}

void nfi_activate(nf_activation f, size_t rows, size_t ld, const nf_real *bias, nf_real *y)
{
    nfi_activate_to(f, rows, ld, bias, y, y);
}

void nfi_activate_vjp(nf_activation f, size_t rows, size_t ld, const nf_real *y, const nf_real *gy, nf_real *g,
                      nf_real *g_bias)
{
    switch (f) {
#define NFI_UNIT_VJP_CASE(tag, name, value, slope, curve) \
    case tag:                                             \
        name##_slopes(rows, ld, y, gy, false, g, g_bias); \
        break;
        NFI_UNITS(NFI_UNIT_VJP_CASE)
        NFI_NOT_HERE
    }
}

void nfi_activate_vjp_add(nf_activation f, size_t rows, size_t ld, const nf_real *y, const nf_real *gy, nf_real *g,
                          nf_real *g_bias)
{
    switch (f) {
#define NFI_UNIT_VJP_ADD_CASE(tag, name, value, slope, curve) \
    case tag:                                                 \
        name##_slopes(rows, ld, y, gy, true, g, g_bias);      \
        break;
        NFI_UNITS(NFI_UNIT_VJP_ADD_CASE)
        NFI_NOT_HERE
    }
}

void nfi_activate_slopes(nf_activation f, size_t n, nf_real share, const nf_real *h, nf_real *slope)
{
    switch (f) {
#define NFI_UNIT_FIRST_CASE(tag, name, value, slope_, curve) \
    case tag:                                                \
        name##_first(n, share, h, slope);                    \
        break;
        NFI_UNITS(NFI_UNIT_FIRST_CASE)
        NFI_NOT_HERE
    }
}

void nfi_activate_curves(nf_activation f, size_t n, nf_real share, const nf_real *h, nf_real *curve)
{
    switch (f) {
#define NFI_UNIT_SECOND_CASE(tag, name, value, slope, curve_) \
    case tag:                                                 \
        name##_second(n, share, h, curve);                    \
        break;
        NFI_UNITS(NFI_UNIT_SECOND_CASE)
        NFI_NOT_HERE
    }
}

void nfi_activate_tangent(nf_activation f, size_t rows, size_t k, size_t ld, const nf_real *h, const nf_real *dz,
                          nf_real *dh)
{
    switch (f) {
#define NFI_UNIT_TANGENT_CASE(tag, name, value, slope, curve) \
    case tag:                                                 \
        name##_tangent(rows, k, ld, h, dz, dh);               \
        break;
        NFI_UNITS(NFI_UNIT_TANGENT_CASE)
        NFI_NOT_HERE
    }
}

void nfi_activate_tangent_vjp(nf_activation f, size_t rows, size_t k, size_t ld, const nf_real *h, const nf_real *dz,
                              const nf_real *gh, const nf_real *gdh, nf_real *gz, nf_real *gdz)
{
    switch (f) {
#define NFI_UNIT_TANGENT_VJP_CASE(tag, name, value, slope, curve) \
    case tag:                                                     \
        name##_tangent_vjp(rows, k, ld, h, dz, gh, gdh, gz, gdz); \
        break;
        NFI_UNITS(NFI_UNIT_TANGENT_VJP_CASE)
        NFI_NOT_HERE
    }
}
