/* See kernels.h. The control of steps is Gustafsson's PI controller with the constants of DOPRI5 (Hairer, Norsett &
   Wanner 1993, II.4; Hairer & Wanner 1996, IV.2): with the order q of a step's error, and the last error err',

       h' = h 0.9 err^-(1/q - 3 B / 4) err'^B,   B = 1 / (5 q),

   but no longer than by Gustafsson's predictive controller (1994; Hairer & Wanner 1996, IV.8). It assumes that the next
   step is as much harder than this one as this one was than the accepted one before, whose length was h_b:

       0.9 (h^2 / h_b) (err' / err^2)^(1/q).

   h' is between h / 5 and 10 h, and no longer than h after a rejected step. A rejected step is made 0.9 err^(-1/q) as
   long, one whose error is not finite a tenth. */
#include "flows/ode/kernels.h"
#include "flows/param.h"
#include "math/vec.h"

void nfi_ode_combine(size_t rows, size_t ld, size_t n, const nf_real *w, const nf_real *h, size_t stride,
                     const nf_real *k, const nf_real *base, nf_real *out)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++)
        for (size_t s = 0; s < ld; s += NFI_WIDTH) {
            const size_t at = r * ld + s;
            nfi_vec sum = {0};
            for (size_t j = 0; j < n; j++)
                if (w[j] < 0 || w[j] > 0)
                    sum += w[j] * NFI_CONST_VEC_AT(k + j * stride + at);
            sum *= NFI_CONST_VEC_AT(h + s);
            NFI_VEC_AT(out + at) = base ? NFI_CONST_VEC_AT(base + at) + sum : sum;
        }
}

void nfi_ode_time(size_t ld, nf_real c, nf_real to, const nf_real *h, const nf_real *t, nf_real *out)
{
    ld = nfi_lanes(ld);
    const bool whole = !(c < 1);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nf_real there = t[s] + c * h[s];
        const bool ends = whole & (nfi_abs(h[s]) >= nfi_abs(to - t[s]));
        out[s] = ends ? to : there;
    }
}

void nfi_ode_norm(size_t rows, size_t ld, nf_real rtol, nf_real atol, nf_real share, const nf_real *x,
                  const nf_real *minus, const nf_real *a, const nf_real *b, nf_real *sums)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        const nf_real *from = minus ? minus + r * ld : NULL, *row = x + r * ld, *u = a + r * ld, *v = b + r * ld;
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real size = nfi_abs(u[s]) > nfi_abs(v[s]) ? nfi_abs(u[s]) : nfi_abs(v[s]);
            const nf_real part = (from ? row[s] - from[s] : row[s]) / (atol + rtol * size);
            sums[s] += share * (part * part);
        }
    }
}

void nfi_ode_choose(size_t rows, size_t ld, const nf_real *chosen, const nf_real *x, nf_real *out)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++) {
            const nf_real old = out[r * ld + s], now = x[r * ld + s];
            out[r * ld + s] = chosen[s] < 0 || chosen[s] > 0 ? now : old;
        }
    }
}

void nfi_ode_first(size_t ld, const nfi_ode_law *law, const nf_real *of_z, const nf_real *of_f,
                   const nf_real *of_change, nf_real *step)
{
    ld = nfi_lanes(ld);
    const nf_real longest = nfi_abs(law->length), sign = law->length < 0 ? -1 : 1, power = -NF_R(0.5) / law->order;
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const bool small = (of_z[s] < NF_R(1e-10)) | (of_f[s] < NF_R(1e-10));
        nf_real trial = small ? NF_R(1e-6) : NF_R(0.01) * nfi_sqrt(of_z[s] / of_f[s]);
        trial = trial < longest ? trial : longest; /* also where it is NaN */
        if (of_change) {
            const nf_real change = of_change[s] / (trial * trial), most = of_f[s] > change ? of_f[s] : change;
            const nf_real slow = NF_R(1e-3) * trial > NF_R(1e-6) ? NF_R(1e-3) * trial : NF_R(1e-6);
            nf_real h = most < NF_R(1e-30) ? slow : nfi_exp(power * (nfi_log(most) + NF_R(9.210340371976182)));
            h = h < 100 * trial ? h : 100 * trial;
            trial = h < longest ? h : longest;
        }
        step[s] = sign * trial;
    }
}

nf_real nfi_ode_control(size_t ld, const nfi_ode_law *law, const nf_real *square, const nf_real *t,
                        const nf_real *t_next, nf_real *work)
{
    ld = nfi_lanes(ld);
    nf_real *step = work + NFI_ODE_STEP * ld, *taken = work + NFI_ODE_TAKEN * ld;
    nf_real *before = work + NFI_ODE_BEFORE * ld, *most = work + NFI_ODE_MOST * ld;
    nf_real *length = work + NFI_ODE_LENGTH * ld;
    nf_real *active = work + NFI_ODE_ACTIVE * ld, *failed = work + NFI_ODE_FAILED * ld;
    const nf_real shortest = nfi_abs(law->length) / 1024;
    const nf_real beta = NF_R(0.2) / law->order, alpha = 1 / law->order - NF_R(0.75) * beta;
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const bool finite = square[s] <= NFI_LARGEST, works = active[s] > 0, good = works & (square[s] <= 1);
        const nf_real error = finite ? NF_R(0.5) * nfi_log(square[s] > NF_R(1e-20) ? square[s] : NF_R(1e-20)) : 0;
        nf_real grow = NF_R(0.9) * nfi_exp(beta * before[s] - alpha * error);
        nf_real shrink = finite ? NF_R(0.9) * nfi_exp(-error / law->order) : NF_R(0.1);
        const bool first = !(nfi_abs(length[s]) > 0); /* accepted step */
        const nf_real stretch =
            first ? most[s] : NF_R(0.9) * (step[s] / length[s]) * nfi_exp((before[s] - 2 * error) / law->order);
        grow = grow > stretch ? stretch : grow;
        grow = grow > most[s] ? most[s] : grow;
        grow = grow < NF_R(0.2) ? NF_R(0.2) : grow;
        shrink = ((shrink < NF_R(0.2)) & finite) ? NF_R(0.2) : shrink;
        const nf_real want = step[s] * (good ? grow : shrink), left = law->to - (good ? t_next[s] : t[s]);
        const nf_real here = nfi_abs(t[s]), least = law->least * (here > shortest ? here : shortest);
        const bool reaches = NF_R(1.01) * nfi_abs(want) >= nfi_abs(left), done = !(nfi_abs(left) > 0);
        const bool fails = works & !done & !reaches & !(nfi_abs(want) >= least), goes_on = works & !done & !fails;
        taken[s] = good ? step[s] : 0;
        length[s] = good ? step[s] : length[s];
        step[s] = !goes_on ? 0 : reaches ? left : want;
        before[s] = !good ? before[s] : error > NF_R(-9.210340371976182) ? error : NF_R(-9.210340371976182);
        most[s] = good ? 10 : 1;
        active[s] = goes_on ? 1 : 0;
        failed[s] = fails ? 1 : failed[s];
    }
    return nfi_row_sum(ld, active);
}

void nfi_ode_trace(size_t rows, size_t k, size_t ld, nf_real weight, const nf_real *e, const nf_real *dy, nf_real *out)
{
    ld = nfi_lanes(ld);
    for (size_t s = 0; s < ld; s += NFI_WIDTH) {
        nfi_vec sum = {0};
        for (size_t i = s; i < rows * k * ld; i += ld)
            sum += NFI_CONST_VEC_AT(e + i) * NFI_CONST_VEC_AT(dy + i);
        NFI_VEC_AT(out + s) = weight * sum;
    }
}

void nfi_ode_diagonal(size_t rows, size_t ld, const nf_real *dy, nf_real *out)
{
    ld = nfi_lanes(ld);
    for (size_t s = 0; s < ld; s += NFI_WIDTH) {
        nfi_vec sum = {0};
        for (size_t r = 0; r < rows; r++)
            sum += NFI_CONST_VEC_AT(dy + r * (rows + 1) * ld + s);
        NFI_VEC_AT(out + s) = sum;
    }
}

void nfi_ode_trace_vjp(size_t rows, size_t k, size_t ld, nf_real weight, const nf_real *g, const nf_real *e,
                       nf_real *gdy)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows * k; r++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            gdy[r * ld + s] = weight * g[s] * e[r * ld + s];
    }
}

void nfi_ode_squares(size_t rows, size_t ld, nf_real weight, const nf_real *x, nf_real *sums)
{
    ld = nfi_lanes(ld);
    for (size_t s = 0; s < ld; s += NFI_WIDTH) {
        nfi_vec sum = {0};
        for (size_t i = s; i < rows * ld; i += ld)
            sum += NFI_CONST_VEC_AT(x + i) * NFI_CONST_VEC_AT(x + i);
        NFI_VEC_AT(sums + s) += weight * sum;
    }
}

void nfi_ode_squares_vjp(size_t rows, size_t ld, nf_real weight, const nf_real *g, const nf_real *x, nf_real *gx)
{
    ld = nfi_lanes(ld);
    for (size_t r = 0; r < rows; r++) {
        NFI_SIMD
        for (size_t s = 0; s < ld; s++)
            gx[r * ld + s] += 2 * weight * g[s] * x[r * ld + s];
    }
}
