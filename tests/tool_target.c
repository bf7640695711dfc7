/* Targets for nflow vi --target (tests/tool.py), with the signature of nutpie and with that of a batch: a normal with
   means 3, -2, 0 and deviations 0.5, 2, 1, and a density that is an error everywhere. */
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

EXPORT int normals(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                   unsigned char *rejected)
{
    (void)user, (void)rejected;
    for (size_t i = 0; i < n; i++)
        log_p[i] = point(d, x + i * d, grad ? grad + i * d : NULL);
    return 0;
}
