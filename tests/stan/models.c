/* Stan's models of this folder beside the same densities in C, over the library's own constraints:
       models NAME LIBRARY.so FOLDER
   compares log densities, gradients, outputs and names at points around 0, reads the data from a file in FOLDER and
   from text, and has a point rejected. Prints one line of why and exits with 1 if something is wrong. */
#include <math.h>
#include <nflow/nflow.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 20, MOST = 64 };
static const double pi = 3.14159265358979323846;

static void need(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "%s: %s\n", what, nf_error_message());
    exit(1);
}

static double log_normal(double x, double mean, double sd)
{
    return -0.5 * (x - mean) * (x - mean) / (sd * sd) - log(sd) - 0.5 * log(2 * pi);
}

/* ---- eight schools ---- */

static const char schools_data[] =
    "{\"J\": 8, \"y\": [28, 8, -3, 7, -1, 1, 18, 12], \"sigma\": [15, 10, 16, 11, 9, 11, 10, 18]}";
static const double effect[8] = {28, 8, -3, 7, -1, 1, 18, 12}, error[8] = {15, 10, 16, 11, 9, 11, 10, 18};

/* Over mu, tau, and effects that are theta [8] if `centered`, else eta with theta = mu + tau eta. */
static int schools(void *centered, size_t d, const double *v, double *log_p, double *grad)
{
    const double mu = v[0], tau = v[1], *e = v + 2;
    double g[10] = {-mu / 25, -2 * tau / (25 + tau * tau)};
    *log_p = log_normal(mu, 0, 5) - log(pi * 5) - log1p(tau * tau / 25);
    for (size_t j = 0; j < 8; j++) {
        const double theta = centered ? e[j] : mu + tau * e[j], r = (effect[j] - theta) / (error[j] * error[j]);
        *log_p += log_normal(effect[j], theta, error[j]);
        if (centered) {
            const double z = (e[j] - mu) / tau;
            *log_p += log_normal(e[j], mu, tau);
            g[0] += z / tau;
            g[1] += (z * z - 1) / tau;
            g[2 + j] = r - z / tau;
        } else {
            *log_p += log_normal(e[j], 0, 1);
            g[0] += r;
            g[1] += r * e[j];
            g[2 + j] = r * tau - e[j];
        }
    }
    if (grad)
        memcpy(grad, g, d * sizeof *grad);
    return 0;
}

static nf_target *new_schools(bool centered)
{
    static int yes;
    return nf_target_constrained(nf_target_point_callback(10, schools, centered ? &yes : NULL, NF_SERIAL),
                                 (nf_parameter[]){{"mu", nf_identity(1), NULL, 0},
                                                  {"tau", nf_lower(1, 0), NULL, 0},
                                                  {centered ? "theta" : "eta", nf_identity(8), NULL, 0}},
                                 3);
}

static nf_target *new_centered(void)
{
    return new_schools(true);
}

static nf_target *new_noncentered(void)
{
    return new_schools(false);
}

/* ---- logistic regression ---- */

enum { ROWS = 5, COLUMNS = 3 };
static const char logistic_data[] =
    "{\"N\": 5, \"K\": 3, \"x\": [[0.5, -1.25, 2], [1.5, 0.75, -0.5], [-2.25, 0.1, 0.3], [0, 1, "
    "-1], [0.6, 0.7, 0.8]], \"y\": [1, 0, 0, 1, 1]}";
static const double rows[ROWS][COLUMNS] = {
    {0.5, -1.25, 2}, {1.5, 0.75, -0.5}, {-2.25, 0.1, 0.3}, {0, 1, -1}, {0.6, 0.7, 0.8}};
static const double outcome[ROWS] = {1, 0, 0, 1, 1};

static int logistic(void *user, size_t d, const double *v, double *log_p, double *grad)
{
    (void)user;
    const double alpha = v[0], scale = v[1], *beta = v + 2;
    double g[2 + COLUMNS] = {-alpha / 6.25, -scale};
    *log_p = log_normal(alpha, 0, 2.5) + log_normal(scale, 0, 1);
    for (size_t k = 0; k < COLUMNS; k++) {
        *log_p += log_normal(beta[k], 0, scale);
        g[1] += (beta[k] * beta[k] / (scale * scale) - 1) / scale;
        g[2 + k] = -beta[k] / (scale * scale);
    }
    for (size_t i = 0; i < ROWS; i++) {
        double eta = alpha;
        for (size_t k = 0; k < COLUMNS; k++)
            eta += rows[i][k] * beta[k];
        const double r = outcome[i] - 1 / (1 + exp(-eta));
        *log_p += outcome[i] * eta - log1p(exp(eta));
        g[0] += r;
        for (size_t k = 0; k < COLUMNS; k++)
            g[2 + k] += r * rows[i][k];
    }
    if (grad)
        memcpy(grad, g, d * sizeof *grad);
    return 0;
}

static nf_target *new_logistic(void)
{
    return nf_target_constrained(nf_target_point_callback(2 + COLUMNS, logistic, NULL, NF_SERIAL),
                                 (nf_parameter[]){{"alpha", nf_identity(1), NULL, 0},
                                                  {"scale", nf_lower(1, 0), NULL, 0},
                                                  {"beta", nf_identity(COLUMNS), NULL, 0}},
                                 3);
}

/* ---- constrained blocks of size 3 ---- */

enum {
    K = 3,
    RHO = 0,
    PI = 1,
    CUT = PI + K,
    SIGMA = CUT + K,
    CHOL = SIGMA + K * K,
    CORR = CHOL + K * K,
    BLOCKS = CORR + K * K
};
static const char blocks_data[] = "{\"K\": 3, \"alpha\": [1.5, 2, 3.25]}";
static const double alpha[K] = {1.5, 2, 3.25};

/* log det of a 3 x 3 matrix, and its inverse. */
static double log_det(const double *m, double *inverse)
{
    double det = 0;
    for (size_t i = 0; i < K; i++)
        for (size_t j = 0; j < K; j++) {
            const size_t a = (i + 1) % K, b = (i + 2) % K, c = (j + 1) % K, e = (j + 2) % K;
            inverse[j * K + i] = m[a * K + c] * m[b * K + e] - m[a * K + e] * m[b * K + c];
        }
    for (size_t j = 0; j < K; j++)
        det += m[j] * inverse[j * K];
    for (size_t i = 0; i < K * K; i++)
        inverse[i] /= det;
    return log(det);
}

/* Of the LKJ distribution (Lewandowski, Kurowicka and Joe 2009). */
static double lkj_constant(double eta)
{
    double c = (K - 1) * lgamma(eta + 0.5 * (K - 1));
    for (int k = 1; k < K; k++)
        c -= 0.5 * k * log(pi) + lgamma(eta + 0.5 * (K - 1 - k));
    return c;
}

static int blocks(void *user, size_t d, const double *v, double *log_p, double *grad)
{
    (void)user;
    double g[BLOCKS] = {0}, inverse[K * K], total = 0;
    const double nu = K + 2;
    *log_p = log_normal(v[RHO], 0, 1);
    g[RHO] = -v[RHO];
    for (size_t k = 0; k < K; k++) {
        total += alpha[k];
        *log_p += (alpha[k] - 1) * log(v[PI + k]) - lgamma(alpha[k]) + log_normal(v[CUT + k], 0, 2);
        g[PI + k] = (alpha[k] - 1) / v[PI + k];
        g[CUT + k] = -v[CUT + k] / 4;
    }
    *log_p += lgamma(total);
    /* Wishart of nu degrees and scale I / 2 */
    *log_p += (nu - K - 1) / 2 * log_det(v + SIGMA, inverse) - K * nu / 2 * log(2) - nu / 2 * K * log(0.5) -
              K * (K - 1) / 4.0 * log(pi);
    for (size_t k = 0; k < K; k++) {
        *log_p -= v[SIGMA + k * (K + 1)] + lgamma((nu - (double)k) / 2);
        g[SIGMA + k * (K + 1)] = -1;
    }
    for (size_t i = 0; i < K * K; i++)
        g[SIGMA + i] += (nu - K - 1) / 2 * inverse[i];
    /* L: eta = 2; R: eta = 1.5 */
    *log_p += lkj_constant(2) + lkj_constant(1.5) + 0.5 * log_det(v + CORR, inverse);
    for (size_t k = 1; k < K; k++) {
        const double power = K - (double)k - 1 + 2 * 2 - 2, l = v[CHOL + k * (K + 1)];
        *log_p += power * log(l);
        g[CHOL + k * (K + 1)] = power / l;
    }
    for (size_t i = 0; i < K * K; i++)
        g[CORR + i] = 0.5 * inverse[i];
    if (grad)
        memcpy(grad, g, d * sizeof *grad);
    return 0;
}

static nf_target *new_blocks(void)
{
    const size_t square[] = {K, K};
    return nf_target_constrained(nf_target_point_callback(BLOCKS, blocks, NULL, NF_SERIAL),
                                 (nf_parameter[]){{"rho", nf_interval(1, -1, 2.5), NULL, 0},
                                                  {"pi", nf_simplex_stick(K), NULL, 0},
                                                  {"cut", nf_ordered(K), NULL, 0},
                                                  {"Sigma", nf_cov_matrix(K), square, 2},
                                                  {"L", nf_cholesky_corr(K), square, 2},
                                                  {"R", nf_corr_matrix(K), square, 2}},
                                 6);
}

/* ---- the comparison ---- */

static const struct model {
    const char *name, *data;
    nf_target *(*reference)(void);
    const char *words; /* of the message for a point of large numbers */
} models[] = {
    {"eight_schools_noncentered", schools_data, new_noncentered, "normal_lpdf: Location parameter"},
    {"eight_schools_centered", schools_data, new_centered, "log p is -inf at (800, 800"},
    {"logistic_regression", logistic_data, new_logistic, "log p is -inf at (800, 800"},
    {"constrained_blocks", blocks_data, new_blocks, "wishart_lpdf"},
};

static double worst(size_t n, const double *a, const double *b)
{
    double error_ = 0;
    for (size_t i = 0; i < n; i++) {
        const double e = fabs(a[i] - b[i]) / (1 + fabs(b[i]));
        error_ = e <= error_ ? error_ : e; /* NaN stays */
    }
    return error_;
}

static void compare(const nf_target *stan, const nf_target *ours)
{
    static double x[N * MOST], p[2][N], g[2][N * MOST], y[2][N * MOST];
    const size_t d = nf_target_dim(ours), width = nf_target_n_outputs(ours);
    for (size_t i = 0; i < N * d; i++)
        x[i] = 1.1 * sin(1.7 * (double)i + 0.3) + 0.3 * cos((double)(i * i));
    need(nf_target_dim(stan) == d, "the dimension");
    need(nf_target_n_outputs(stan) == width, "the number of outputs");
    for (size_t k = 0; k < width; k++)
        need(strcmp(nf_target_output_name(stan, k), nf_target_output_name(ours, k)) == 0,
             nf_target_output_name(stan, k));
    for (int gradient = 1; gradient >= 0; gradient--) {
        need(nf_target_eval(stan, N, x, p[0], gradient ? g[0] : NULL, NULL) == NF_OK, "Stan's density");
        need(nf_target_eval(ours, N, x, p[1], gradient ? g[1] : NULL, NULL) == NF_OK, "our density");
        const double error_p = worst(N, p[0], p[1]), error_g = worst(N * d, g[0], g[1]);
        printf("log p to %.1e, gradient to %.1e\n", error_p, error_g);
        need(error_p < 1e-10, "the log densities differ");
        need(error_g < 1e-9, "the gradients differ");
    }
    need(nf_target_outputs(stan, N, x, y[0]) == NF_OK, "Stan's outputs");
    need(nf_target_outputs(ours, N, x, y[1]) == NF_OK, "our outputs");
    need(worst(N * width, y[0], y[1]) < 1e-12, "the outputs differ");
    nf_target_report r;
    need(nf_target_check(stan, N, x, &r) == NF_OK && r.worst_error < 1e-6, "Stan's gradient beside differences");
}

static void compare_rejection(const nf_target *stan, const char *words)
{
    double x[2 * MOST] = {0}, p[2], g[2 * MOST];
    unsigned char rejected[2];
    const size_t d = nf_target_dim(stan);
    for (size_t i = 0; i < d; i++)
        x[d + i] = 800;
    need(nf_target_eval(stan, 2, x, p, g, rejected) == NF_OK, "a point of large numbers");
    printf("at (800, ...): %s\n", nf_target_rejection(stan));
    need(!rejected[0] && rejected[1] && p[1] == -INFINITY && g[d] == 0, "a point of large numbers is not rejected");
    need(strstr(nf_target_rejection(stan), words) && !strchr(nf_target_rejection(stan), '\n'),
         "the message is another one");
}

static char printed[4096];
static void keep(const char *text, size_t size)
{
    const size_t used = strlen(printed);
    if (used + size < sizeof printed)
        memcpy(printed + used, text, size);
}

/* Outputs beyond the parameters, of the one model that has any. */
static void compare_derived(const char *library, const char *path)
{
    const nf_stan_options o = {.seed = 5, .transformed_parameters = true, .generated_quantities = true, .print = keep};
    nf_target *t = nf_target_stan(library, path, &o), *other;
    const double x[10] = {1.5, 0.3, 0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7, -0.8};
    double y[26], again[26], others[26];
    need(t != NULL && nf_target_n_outputs(t) == 26, "with transformed parameters and generated quantities");
    need(strcmp(printed, "eight schools: J is 8\n") == 0, "what the model prints");
    need(strcmp(nf_target_output_name(t, 10), "theta.1") == 0 && strcmp(nf_target_output_name(t, 25), "y_rep.8") == 0,
         "names");
    need(nf_target_outputs(t, 1, x, y) == NF_OK && nf_target_outputs(t, 1, x, again) == NF_OK, "derived outputs");
    for (size_t j = 0; j < 8; j++)
        need(fabs(y[10 + j] - (1.5 + exp(0.3) * x[2 + j])) < 1e-13 && fabs(y[18 + j] - y[10 + j]) < 6 * error[j],
             "derived outputs");
    need(memcmp(y, again, sizeof y) == 0, "one seed, other draws");
    other = nf_target_stan(library, path,
                           &(nf_stan_options){.seed = 6, .transformed_parameters = true, .generated_quantities = true});
    need(other && nf_target_outputs(other, 1, x, others) == NF_OK && others[18] != y[18],
         "another seed, the same draws");
    nf_target_free(other);
    nf_target_free(t);
}

int main(int argc, char **argv)
{
    const struct model *m = models, *end = models + sizeof models / sizeof models[0];
    while (argc == 4 && m < end && strcmp(m->name, argv[1]) != 0)
        m++;
    if (argc != 4 || m == end) {
        fprintf(stderr, "usage: models NAME LIBRARY.so FOLDER\n");
        return 2;
    }
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.json", argv[3], m->name);
    FILE *f = fopen(path, "w");
    need(f && fputs(m->data, f) >= 0 && fclose(f) == 0, path);
    nf_target *ours = m->reference();
    need(ours != NULL, "our model");
    for (int file = 0; file < 2; file++) {
        nf_target *stan = nf_target_stan(argv[2], file ? path : m->data, NULL);
        need(stan != NULL, "the model");
        need(nf_target_rule(stan) == NF_SERIAL, "the thread rule");
        compare(stan, ours);
        compare_rejection(stan, m->words);
        nf_target_free(stan);
    }
    nf_target_free(ours);
    need(!nf_target_stan(argv[2], NULL, NULL) && strstr(nf_error_message(), "variable does not exist"), "without data");
    printf("without data: %s\n", nf_error_message());
    need(!nf_target_stan(argv[2], "{\"J\": -1, \"K\": -1, \"N\": -1}", NULL) &&
             strstr(nf_error_message(), "refuses its data"),
         "wrong data");
    printf("wrong data: %s\n", nf_error_message());
    if (strcmp(m->name, "eight_schools_noncentered") == 0)
        compare_derived(argv[2], path);
    return 0;
}
