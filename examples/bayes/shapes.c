/*
 * Densities with known integrals that are hard in one way each.
 *
 *     funnel (Neal 2003)         v ~ N(0, 3^2),   x_i ~ N(0, e^v), i = 1 .. 9
 *     banana (Haario 1999)       x_1 ~ N(0, 10^2),   x_2 ~ N(0.03 (x_1^2 - 100), 1)
 *     ring                       p(x) proportional to exp(-((|x| - 2) / 0.3)^2 / 2), x in the plane
 *     student_t                  Student's t in five dimensions with 1.5 degrees of freedom: a mean, but no variance
 */
#include "bayes_models.h"
#include "priors.h"
#include <math.h>

enum { FUNNEL = 9, T = 5 };

static double funnel(const void *unused, const double *x, double *g)
{
    const double scale = exp(0.5 * x[0]);
    double sum = normal_log_p(x[0], 0, 3, &g[0]), g_mean = 0, g_scale = 0;
    (void)unused;
    for (size_t i = 1; i <= FUNNEL; i++)
        sum += normal_log_p_all(x[i], 0, scale, &g[i], &g_mean, &g_scale);
    g[0] += 0.5 * scale * g_scale;
    return sum;
}

static double banana(const void *unused, const double *x, double *g)
{
    double g_mean = 0, g_sd = 0;
    (void)unused;
    const double sum =
        normal_log_p(x[0], 0, 10, &g[0]) + normal_log_p_all(x[1], 0.03 * (x[0] * x[0] - 100), 1, &g[1], &g_mean, &g_sd);
    g[0] += 0.06 * x[0] * g_mean;
    return sum;
}

static const double radius = 2, width = 0.3;

static double ring(const void *unused, const double *x, double *g)
{
    const double r = hypot(x[0], x[1]), z = (r - radius) / width;
    (void)unused;
    for (size_t i = 0; i < 2 && r > 0; i++)
        g[i] = -z / width * x[i] / r;
    return -0.5 * z * z;
}

/* 2 pi times the integral of r exp(-((r - a) / w)^2 / 2) over r > 0 */
static double ring_log_z(const void *unused)
{
    const double z = radius / width, below = 0.5 * erfc(z / sqrt(2)), top = 0.5 * LN_2_PI;
    (void)unused;
    return LN_2_PI + log(width * width * exp(-0.5 * z * z) + radius * width * exp(top) * (1 - below));
}

static double student_t(const void *unused, const double *x, double *g)
{
    const double df = 1.5, half = 0.5 * (df + T);
    double square = 0;
    int sign;
    (void)unused;
    for (size_t i = 0; i < T; i++)
        square += x[i] * x[i];
    for (size_t i = 0; i < T; i++)
        g[i] = -(df + T) * x[i] / (df + square);
    return lgamma_r(half, &sign) - lgamma_r(0.5 * df, &sign) - 0.5 * T * (LN_PI + log(df)) - half * log1p(square / df);
}

const bayes_model bayes_funnel = {
    .name = "funnel",
    .about = "Neal's funnel",
    .parameters = {{.name = "v"}, {.name = "x", .n = FUNNEL}},
    .log_p = funnel,
    .log_z = bayes_normalised,
};

const bayes_model bayes_banana = {
    .name = "banana",
    .about = "a bent normal density",
    .parameters = {{.name = "x", .n = 2}},
    .log_p = banana,
    .log_z = bayes_normalised,
};

const bayes_model bayes_ring = {
    .name = "ring",
    .about = "a ring, with a hole",
    .parameters = {{.name = "x", .n = 2}},
    .log_p = ring,
    .log_z = ring_log_z,
};

const bayes_model bayes_student_t = {
    .name = "student_t",
    .about = "t with 1.5 degrees of freedom",
    .parameters = {{.name = "x", .n = T}},
    .log_p = student_t,
    .log_z = bayes_normalised,
};
