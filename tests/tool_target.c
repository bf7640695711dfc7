/* Targets for nflow vi --target (tests/tool.py), with the signature of nutpie and with that of a batch: a normal with
   means 3, -2, 0 and deviations 0.5, 2, 1, the same with walls, and densities that are errors, everywhere or after a
   while. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static double point(size_t d, const double *x, double *grad)
{
    static const double mean[] = {3, -2, 0}, sd[] = {0.5, 2, 1};
    double log_p = 0;
    for (size_t k = 0; k < d; k++) {
        const double z = (x[k] - mean[k % 3]) / sd[k % 3];
        log_p -= z * z / 2 + log(sd[k % 3]) + 0.91893853320467274;
        if (grad)
            grad[k] = -z / sd[k % 3];
    }
    return log_p;
}

EXPORT int64_t normal(uint64_t dim, const double *x, double *grad, double *log_p, void *user)
{
    (void)user;
    *log_p = point(dim, x, grad);
    return 0;
}

/* The same, a tenth of a millisecond each: a fit that can be interrupted once there is the file "began". */
EXPORT int64_t slow(uint64_t dim, const double *x, double *grad, double *log_p, void *user)
{
    const struct timespec pause = {.tv_nsec = 100000};
    FILE *file = access("began", F_OK) ? fopen("began", "w") : NULL;
    if (file)
        fclose(file);
    nanosleep(&pause, NULL);
    return normal(dim, x, grad, log_p, user);
}

EXPORT int64_t broken(uint64_t dim, const double *x, double *grad, double *log_p, void *user)
{
    (void)dim, (void)x, (void)grad, (void)log_p, (void)user;
    return -7;
}

/* The same with a wall three deviations away in each dimension: log p is NaN beyond one, -infinity beyond another, and
   beyond the third it refuses with a code. */
EXPORT int64_t walled(uint64_t dim, const double *x, double *grad, double *log_p, void *user)
{
    normal(dim, x, grad, log_p, user);
    if (x[0] > 4.5)
        *log_p = NAN;
    else if (x[1] < -8)
        *log_p = -INFINITY;
    return x[2] > 3;
}

EXPORT int64_t nowhere(uint64_t dim, const double *x, double *grad, double *log_p, void *user)
{
    normal(dim, x, grad, log_p, user);
    *log_p = NAN;
    return 0;
}

/* A banana, which no normal fits, and an error from the 30001st point on: in the second rung. */
EXPORT int64_t fading(uint64_t dim, const double *x, double *grad, double *log_p, void *user)
{
    static int points;
    const double bend = x[1] - x[0] * x[0];
    normal(dim, x, grad, log_p, user);
    *log_p = -0.5 * x[0] * x[0] - 2 * bend * bend - 0.5 * x[2] * x[2];
    if (grad) {
        grad[0] = -x[0] + 8 * bend * x[0];
        grad[1] = -4 * bend;
        grad[2] = -x[2];
    }
    return ++points > 30000 ? -9 : 0;
}

EXPORT int normals(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                   unsigned char *rejected)
{
    (void)user, (void)rejected;
    for (size_t i = 0; i < n; i++)
        log_p[i] = point(d, x + i * d, grad ? grad + i * d : NULL);
    return 0;
}
