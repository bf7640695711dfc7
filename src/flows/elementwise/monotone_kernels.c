/* The kernels of nf_monotone_solve and of flows of a formula.

   The solver, for each sample: f(x) = y with f increasing, from x = 0.

   - The sign of r = f(x) - y says on which side of x the root is, so every evaluation narrows the bracket (low, high).
     A NaN counts as an overflow: the root is on the side where f was a number before.
   - Newton's step goes to n = x - r / f'(x). It is taken if it stays inside the bracket and either the step before was
     none of Newton's, or |r| has become less than 1/2 (later 1/8) of what it was. Near the root both hold.
   - A step of Newton's that is shorter than rounding may mean that x is found, or that the slope is wrong. So x goes a
     little further than the step: then the bracket is narrow, or the root is elsewhere.
   - Otherwise, while one end of the bracket is infinite, the step is the last one's length times 4^step or Newton's,
     whichever is longer: so all numbers are within reach of some 30 steps.
   - Otherwise x goes to the middle of the bracket: the arithmetic mean and, alternating with it, the middle of all the
     floating-point numbers in between. The latter ends after at most 64 halvings, also for roots like 1e-300. After
     MOST_NEWTON evaluations there are only such halvings.

   A sample is done when |r| is 0 or a rounding of y; when Newton's step is short and the one before it was so good,
   with a slope like this one's, that what is left is below rounding (this step is then taken); or when the bracket
   contains no further number. */
#include "flows/elementwise/monotone.h"
#include "math/vec.h"

#include <float.h>
#include <stdint.h>

enum { MOST_NEWTON = 70 };

#ifdef NF_SINGLE
#define LARGEST FLT_MAX
#define SHORT 6e-6F /* rounding to the power 3/4 */
#define LEAST_BITS INT32_MIN
typedef int32_t bits;
#else
#define LARGEST DBL_MAX
#define SHORT 2e-12
#define LEAST_BITS INT64_MIN
typedef int64_t bits;
#endif

/* Numbers as integers of the same order, and back. */
NFI_INLINE bits order_of(nf_real x)
{
    bits b;
    memcpy(&b, &x, sizeof b);
    return b < 0 ? LEAST_BITS - b : b;
}

NFI_INLINE nf_real number_at(bits b)
{
    nf_real x;
    b = b < 0 ? LEAST_BITS - b : b;
    memcpy(&x, &b, sizeof x);
    return x;
}

/* The middle of all numbers from low to high. It is low if there is none in between. */
NFI_INLINE nf_real middle_number(nf_real low, nf_real high)
{
    const bits a = order_of(low), b = order_of(high);
    return number_at((a & b) + ((a ^ b) >> 1));
}

void nfi_solve_begin(size_t ld, const nf_real *restrict y, nf_real *restrict x, nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const bool finite = nfi_abs(y[s]) <= LARGEST;
        x[s] = finite ? 0 : y[s];
        work[NFI_SOLVE_LOW * ld + s] = work[NFI_SOLVE_AT_LOW * ld + s] = -(nf_real)INFINITY;
        work[NFI_SOLVE_HIGH * ld + s] = work[NFI_SOLVE_AT_HIGH * ld + s] = (nf_real)INFINITY;
        work[NFI_SOLVE_ERROR * ld + s] = (nf_real)INFINITY;
        work[NFI_SOLVE_NEWTON * ld + s] = 0;
        work[NFI_SOLVE_LENGTH * ld + s] = 1;
        work[NFI_SOLVE_ACTIVE * ld + s] = finite;
    }
}

nf_real nfi_solve_step(size_t ld, int step, const nf_real *restrict y, const nf_real *restrict at,
                       const nf_real *restrict slope, nf_real *restrict x, nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    nf_real *restrict low = work, *restrict at_low = work + NFI_SOLVE_AT_LOW * ld;
    nf_real *restrict high = work + NFI_SOLVE_HIGH * ld, *restrict at_high = work + NFI_SOLVE_AT_HIGH * ld;
    nf_real *restrict error = work + NFI_SOLVE_ERROR * ld, *restrict newton = work + NFI_SOLVE_NEWTON * ld;
    nf_real *restrict length = work + NFI_SOLVE_LENGTH * ld, *restrict active = work + NFI_SOLVE_ACTIVE * ld;
    const nf_real growth = (nf_real)((int64_t)1 << (step < 30 ? 2 * step : 60));
    const bool first = step == 0, late = step >= MOST_NEWTON, arithmetic = !late && step & 2;
    const nf_real gain = step < 16 ? NF_R(0.5) : NF_R(0.125);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        const nf_real X = x[s], r = at[s] - y[s], e = nfi_abs(r);
        const bool unknown = r != r, number_below = (low[s] >= -LARGEST) & (at_low[s] == at_low[s]);
        const bool up = unknown ? !number_below : r < 0;
        const nf_real a = up ? X : low[s], b = up ? high[s] : X;
        const nf_real at_a = up ? at[s] : at_low[s], at_b = up ? at_high[s] : at[s];
        const bool bounded = (a >= -LARGEST) & (b <= LARGEST);
        const nf_real to = slope[s] > 0 && slope[s] <= LARGEST ? X - r / slope[s] : (nf_real)NAN;
        const nf_real move = nfi_abs(to - X), size = nfi_abs(X);
        const bool inside = (to > a) & (to < b), last = newton[s] > 0;
        const bool gains = e <= error[s] * gain;
        /* is it found, or hopeless? */
        const nf_real half = middle_number(bounded ? a : 0, bounded ? b : 1), mean = a / 2 + b / 2;
        const bool closed = bounded & ((half == a) | (half == b));
        const nf_real expected = slope[s] * length[s]; /* by how much f changed in the last step, if it is straight */
        const bool good =
            last & (e <= error[s] * (NFI_EPSILON / SHORT)) & (expected < 2 * error[s]) & (2 * expected > error[s]);
        const bool short_step = good & (move <= SHORT * size);
        const bool near = (e <= NFI_EPSILON * nfi_abs(y[s])) | short_step, tight = move <= 2 * NFI_EPSILON * size;
        const bool found = (r == 0) | near | (closed & (at_a == at_a) & (at_b == at_b));
        const bool lost = (first & unknown) | closed | (!bounded & (size >= LARGEST));
        /* the next x */
        const bool take = inside & !late & !tight & (!last | gains);
        const nf_real nudge = up ? X + 8 * NFI_EPSILON * size : X - 8 * NFI_EPSILON * size;
        const bool nudges = tight & last & (nudge > a) & (nudge < b);
        const nf_real reach = length[s] * growth, far = move > reach ? move : reach;
        const nf_real grown = up ? X + far : X - far, limit = up ? LARGEST : -LARGEST;
        const nf_real beyond = nfi_abs(grown) <= LARGEST ? grown : limit;
        const nf_real otherwise = bounded ? (arithmetic ? mean : half) : beyond;
        const nf_real next = take ? to : nudges ? nudge : otherwise;
        const nf_real end = (short_step & inside) ? to : X, result = found ? end : lost ? (nf_real)NAN : next;
        const bool on = active[s] > 0;
        low[s] = a;
        at_low[s] = at_a;
        high[s] = b;
        at_high[s] = at_b;
        error[s] = e;
        newton[s] = take;
        length[s] = nfi_abs(next - X);
        x[s] = on ? result : X;
        active[s] = on & !found & !lost;
    }
    return nfi_row_sum(ld, active);
}

void nfi_solve_end(size_t ld, nf_real *restrict x, const nf_real *restrict work)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        x[s] = work[NFI_SOLVE_ACTIVE * ld + s] > 0 ? (nf_real)NAN : x[s];
}

/* ---- flows of a formula ---- */

void nfi_formula_add(size_t ld, nf_real sign, const nf_real *restrict log_slope, nf_real *restrict y,
                     double *restrict log_det)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++) {
        y[s] = log_slope[s] == log_slope[s] ? y[s] : log_slope[s];
        log_det[s] += (double)(sign * log_slope[s]);
    }
}

void nfi_formula_slope(size_t ld, const nf_real *log_slope, nf_real *slope)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        slope[s] = nfi_exp(log_slope[s]);
}

void nfi_formula_divide(size_t ld, const nf_real *restrict log_slope, const nf_real *restrict from,
                        nf_real *restrict to)
{
    ld = nfi_lanes(ld);
    NFI_SIMD
    for (size_t s = 0; s < ld; s++)
        to[s] = from[s] == 0 ? 0 : from[s] * nfi_exp(-log_slope[s]);
}

void nfi_formula_gather(size_t stride, size_t n, size_t ld, const nf_real *rows, nf_real *g_theta)
{
    ld = nfi_lanes(ld);
    for (size_t k = 0; k < n; k++)
        NFI_BY_STRIDE(nfi_param_add, stride, ld, rows + k * ld, NULL, g_theta + k * nfi_param_columns(stride, ld));
}
