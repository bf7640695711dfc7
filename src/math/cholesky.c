/*
 * Cholesky factors. With P = R R^T, the inverse of P is R^-T R^-1, whose factor is found from the factor of P with rows
 * and columns in reverse order: if J reverses, J P J = S S^T, then P^-1 = (J S^-T J) (J S^-T J)^T, and J S^-T J is
 * lower triangular. So no inverse is factored, and none loses its definiteness.
 */
#include "math/cholesky.h"
#include <math.h>

bool nfi_cholesky(size_t d, double *a)
{
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j <= i; j++) {
            double s = a[i * d + j];
            for (size_t k = 0; k < j; k++)
                s -= a[i * d + k] * a[j * d + k];
            if (j < i) {
                a[i * d + j] = s / a[j * d + j];
                continue;
            }
            if (!(s > 0 && s < INFINITY))
                return false;
            a[i * d + i] = sqrt(s);
        }
    return true;
}

/* The lower triangle of a in reverse order of rows and columns: a[i][j] <-> a[d-1-j][d-1-i]. */
static void reverse(size_t d, double *a)
{
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j <= i && i + j < d - 1; j++) {
            const size_t other = (d - 1 - j) * d + (d - 1 - i);
            const double t = a[i * d + j];
            a[i * d + j] = a[other];
            a[other] = t;
        }
}

/* Replaces the lower triangle of l by its inverse. */
static void invert(size_t d, double *l)
{
    for (size_t i = 0; i < d; i++) {
        l[i * d + i] = 1 / l[i * d + i];
        for (size_t j = 0; j < i; j++) {
            double s = 0;
            for (size_t k = j; k < i; k++)
                s += l[i * d + k] * l[k * d + j];
            l[i * d + j] = -s * l[i * d + i];
        }
    }
}

bool nfi_cholesky_of_inverse(size_t d, double *p)
{
    reverse(d, p); /* J P J, whose lower triangle is P's upper one turned round */
    if (!nfi_cholesky(d, p))
        return false;
    invert(d, p);
    reverse(d, p); /* (J S^-1 J)^T, lower triangular again, = J S^-T J */
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j <= i; j++)
            if (!isfinite(p[i * d + j]))
                return false;
    return true;
}

void nfi_lower_times(size_t d, const double *mean, const double *l, const double *z, double *y)
{
    for (size_t i = 0; i < d; i++) {
        double s = mean[i];
        for (size_t j = 0; j <= i; j++)
            s += l[i * d + j] * z[j];
        y[i] = s;
    }
}
