#include "toy_data.h"
#include <math.h>
#include <nflow/noise.h>

const char *const toy_names[N_TOYS] = {"eight-gaussians", "moons", "two-spirals", "rings", "checkerboard", "pinwheel"};
static const double pi = 3.14159265358979323846;

/* ---- rows ---- */

/* A row of a toy from three uniforms and two normals. */
static void row(size_t toy, const nf_real *u, const nf_real *g, double *x)
{
    switch (toy) {
    case EIGHT_GAUSSIANS: {
        const double a = 0.25 * pi * floor(8 * u[0]);
        x[0] = (4 * cos(a) + 0.5 * g[0]) * sqrt(0.5);
        x[1] = (4 * sin(a) + 0.5 * g[1]) * sqrt(0.5);
        return;
    }
    case MOONS: {
        const double a = pi * u[0], side = u[1] < NF_R(0.5) ? 1 : -1;
        x[0] = 2 * side * cos(a) + (side > 0 ? -1 : 1) + 0.2 * g[0];
        x[1] = 2 * side * sin(a) + (side > 0 ? -0.2 : 0.8) + 0.2 * g[1];
        return;
    }
    case TWO_SPIRALS: {
        const double a = 3 * pi * sqrt((double)u[0]), side = 2 * u[1] < 1 ? 1 : -1, wide = 2 * u[1] - (side < 0);
        x[0] = side * (-cos(a) * a + 0.5 * wide) / 3 + 0.1 * g[0];
        x[1] = side * (sin(a) * a + 0.5 * u[2]) / 3 + 0.1 * g[1];
        return;
    }
    case RINGS: {
        const double radius = 0.75 * (1 + floor(4 * u[0]));
        x[0] = radius * cos(2 * pi * u[1]) + 0.08 * g[0];
        x[1] = radius * sin(2 * pi * u[1]) + 0.08 * g[1];
        return;
    }
    case CHECKERBOARD: {
        const double column = floor(4 * u[0]); /* of columns 0 and 2 the lowest and the third square belong to it */
        x[0] = 8 * u[0] - 4;
        x[1] = 2 * u[1] - 4 + 2 * fmod(column, 2) + (u[2] < NF_R(0.5) ? 0 : 4);
        return;
    }
    default: {
        const double r = 1 + 0.3 * g[0], t = 0.1 * g[1], a = 0.4 * pi * floor(5 * u[0]) + 0.25 * exp(r);
        x[0] = 2 * (r * cos(a) + t * sin(a));
        x[1] = 2 * (t * cos(a) - r * sin(a));
    }
    }
}

void toy_rows(size_t toy, uint64_t seed, uint64_t first, size_t n, nf_real *x)
{
    enum { MANY = 256 };
    nf_real u[3 * MANY], g[2 * MANY];
    for (size_t i = 0; i < n; i += MANY) {
        const size_t m = n - i < MANY ? n - i : MANY;
        nf_noise_uniform(&(nf_noise){.seed = seed, .step = toy, .first_sample = first + i}, 3, m, m, u);
        nf_noise_normal(&(nf_noise){.seed = seed, .step = toy, .first_sample = first + i, .site = 1}, 2, m, m, g);
        for (size_t s = 0; s < m; s++) {
            double z[2];
            row(toy, (nf_real[]){u[s], u[m + s], u[2 * m + s]}, (nf_real[]){g[s], g[m + s]}, z);
            x[2 * (i + s)] = (nf_real)z[0];
            x[2 * (i + s) + 1] = (nf_real)z[1];
        }
    }
}

/* ---- densities ---- */

/* A density that is the mean, with weights, of equal normals around points; or, with `side`, of squares from each point
   upwards and to the right that are blurred by the normal. Curves are points that lie closer than the deviation: the
   midpoint rule. */
enum { MOST_POINTS = 2000 };
typedef struct cloud {
    size_t n;
    double sd, side, x[MOST_POINTS], y[MOST_POINTS], weight[MOST_POINTS], sum;
} cloud;

static void add(cloud *c, double x, double y, double weight)
{
    c->x[c->n] = x;
    c->y[c->n] = y;
    c->weight[c->n++] = weight;
    c->sum += weight;
}

static void make_cloud(size_t toy, cloud *c)
{
    enum { ARC = 400, ARM = 800, RING = 300 };
    c->n = 0;
    c->sum = 0;
    c->sd = toy == EIGHT_GAUSSIANS ? 0.5 * sqrt(0.5) : toy == MOONS ? 0.2 : toy == RINGS ? 0.08 : 0.1;
    c->side = toy == TWO_SPIRALS ? 0.5 / 3 : 0;
    for (int k = 0; toy == EIGHT_GAUSSIANS && k < 8; k++)
        add(c, sqrt(8) * cos(0.25 * pi * k), sqrt(8) * sin(0.25 * pi * k), 1);
    for (int k = 0; toy == MOONS && k < ARC; k++) {
        const double a = pi * (k + 0.5) / ARC;
        add(c, 2 * cos(a) - 1, 2 * sin(a) - 0.2, 1);
        add(c, 1 - 2 * cos(a), 0.8 - 2 * sin(a), 1);
    }
    for (int k = 0; toy == TWO_SPIRALS && k < ARM; k++) { /* even steps of n, whose density is proportional to n */
        const double a = 3 * pi * (k + 0.5) / ARM;
        add(c, -cos(a) * a / 3, sin(a) * a / 3, a);
        add(c, cos(a) * a / 3 - c->side, -sin(a) * a / 3 - c->side, a);
    }
    for (int k = 0; toy == RINGS && k < 4 * RING; k++) {
        const double a = 2 * pi * k / RING, radius = 0.75 * (1 + k / RING);
        add(c, radius * cos(a), radius * sin(a), 1);
    }
}

/* The share of a normal variable of mean 0 between two numbers, divided by their distance. */
static double blurred(double from, double side, double sd)
{
    return (erf((from + side) / (sd * sqrt(2))) - erf(from / (sd * sqrt(2)))) / (2 * side);
}

static double cloud_density(const cloud *c, double x, double y)
{
    const double reach = 9 * c->sd + c->side; /* beyond, a point adds less than 1e-17 of what it adds at itself */
    double sum = 0;
    for (size_t i = 0; i < c->n; i++) {
        const double dx = x - c->x[i], dy = y - c->y[i];
        if (fabs(dx) > reach || fabs(dy) > reach)
            continue;
        sum +=
            c->weight[i] * (c->side > 0 ? blurred(dx - c->side, c->side, c->sd) * blurred(dy - c->side, c->side, c->sd)
                                        : exp(-0.5 * (dx * dx + dy * dy) / (c->sd * c->sd)));
    }
    return sum / c->sum / (c->side > 0 ? 1 : 2 * pi * c->sd * c->sd);
}

static double checkerboard_density(double x, double y)
{
    const bool inside = fabs(x) <= 4 && fabs(y) <= 4;
    return inside && fmod(floor(x / 2) + floor(y / 2) + 4, 2) == 0 ? 1.0 / 32 : 0;
}

/* Where the pinwheel's point (r, t) = rho (cos v, sin v) lies relative to an arm's start, in arms. */
static double turn(double rho, double v, double polar)
{
    return (v - 0.25 * exp(rho * cos(v)) - polar) / (0.4 * pi);
}

/* All (r, t) that turn into x have the same length, and their angle v solves turn(v) = a whole number. The density of
   each is divided by the Jacobian d turn / dv. Steps are so short that there is at most one solution in each. */
static double pinwheel_density(double x, double y)
{
    enum { STEPS = 240 };
    const double rho = 0.5 * hypot(x, y), polar = atan2(y, x), step = 2 * pi / STEPS;
    double sum = 0;
    for (int i = 0; i < STEPS; i++) {
        double from = step * i - pi, to = from + step;
        if (rho * cos(from) < -1.5 || fabs(rho * sin(from)) > 0.95) /* 8 deviations and more */
            continue;
        const double arm = floor(turn(rho, to, polar));
        if (turn(rho, from, polar) >= arm)
            continue;
        for (int k = 0; k < 45; k++) {
            const double middle = 0.5 * (from + to);
            *(turn(rho, middle, polar) < arm ? &from : &to) = middle;
        }
        const double r = rho * cos(from), t = rho * sin(from), u = (r - 1) / 0.3, v = t / 0.1;
        sum += exp(-0.5 * (u * u + v * v)) / (2 * pi * 0.3 * 0.1) / fabs(1 + 0.25 * exp(r) * t);
    }
    return sum / 5 / 4; /* five arms; x is twice as long as (r, t) */
}

void toy_log_density(size_t toy, size_t n, const nf_real *x, double *log_p)
{
    cloud c;
    make_cloud(toy, &c);
    for (size_t i = 0; i < n; i++) {
        const double a = x[2 * i], b = x[2 * i + 1];
        log_p[i] = log(toy == CHECKERBOARD ? checkerboard_density(a, b)
                       : toy == PINWHEEL   ? pinwheel_density(a, b)
                                           : cloud_density(&c, a, b));
    }
}

/* The midpoint rule in [-6, 6] x [-6, 6]: for smooth densities exact to rounding, since a cell is no wider than the
   smallest deviation; for the checkerboard, too, since no cell crosses an edge. */
double toy_entropy(size_t toy)
{
    enum { CELLS = 240 };
    const double side = 12.0 / CELLS;
    double sum = 0;
    for (int i = 0; i < CELLS; i++) {
        nf_real x[2 * CELLS];
        double log_p[CELLS];
        for (int j = 0; j < CELLS; j++) {
            x[2 * j] = NF_R(side * (j + 0.5) - 6);
            x[2 * j + 1] = NF_R(side * (i + 0.5) - 6);
        }
        toy_log_density(toy, CELLS, x, log_p);
        for (int j = 0; j < CELLS; j++)
            sum -= log_p[j] > -700 ? exp(log_p[j]) * log_p[j] : 0;
    }
    return sum * side * side;
}
