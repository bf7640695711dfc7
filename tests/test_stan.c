/* Targets of Stan models, with libraries that have BridgeStan's interface but no Stan (fake_bridgestan). */
#include "expect.h"
#include "fail_alloc.h"
#include "temp_files.h"
#include <dlfcn.h>
#include <fake_bridgestan.h> /* FAKES: the folder where the libraries are */
#include <math.h>
#include <nflow/nflow.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FAKE(name) FAKES "/fake_" name ".so"
enum { D = 5, N = 90 };

/* A counter of the library. */
static atomic_int *counter(const char *path, const char *name)
{
    atomic_int *at = dlsym(dlopen(path, RTLD_NOW | RTLD_LOCAL), name);
    cr_assert_not_null(at, "%s", dlerror());
    return at;
}

static double funnel(const double *x, double *g)
{
    double sum = 0;
    for (size_t k = 1; k < D; k++) {
        sum += x[k] * x[k];
        g[k] = -x[k] * exp(-x[0]);
    }
    g[0] = -x[0] / 9 + sum * exp(-x[0]) / 2 - 2;
    return -0.5 * x[0] * x[0] / 9 - log(3) - 2.5 * log(2 * 3.14159265358979323846) - 2 * x[0] - sum * exp(-x[0]) / 2;
}

static void fill(double *x)
{
    for (size_t i = 0; i < N * D; i++)
        x[i] = 1.9 * sin(1.7 * (double)i + 0.3);
}

Test(stan, density_gradient_and_names)
{
    static double x[N * D], log_p[N], grad[N * D], values[N], y[N * 8];
    const char *names[] = {"scale", "x.1", "x.2", "x.3", "x.4", "half", "seed", "noise"};
    fill(x);
    nf_target *t = nf_target_stan(FAKE("threads"), "{\"J\": 8}", NULL);
    cr_assert_not_null(t, "%s", nf_error_message());
    cr_assert_eq(nf_target_dim(t), D);
    cr_assert_eq(nf_target_rule(t), NF_THREADSAFE);
    cr_assert_eq(nf_target_eval(t, N, x, log_p, grad, NULL), NF_OK);
    cr_assert_eq(nf_target_eval(t, N, x, values, NULL, NULL), NF_OK);
    cr_assert_arr_eq(values, log_p, sizeof values);
    for (size_t i = 0; i < N; i++) {
        double g[D], value = funnel(x + i * D, g);
        cr_assert_float_eq(log_p[i], value, 1e-12 * (1 + fabs(value)));
        for (size_t j = 0; j < D; j++)
            cr_assert_float_eq(grad[i * D + j], g[j], 1e-12 * (1 + fabs(g[j])));
    }
    cr_assert_eq(nf_target_n_outputs(t), D);
    cr_assert_str_eq(nf_target_output_name(t, 4), "x.4");
    cr_assert_null(nf_target_output_name(t, 5));
    nf_target_free(t);
    for (unsigned which = 0; which < 4; which++) {
        const nf_stan_options o = {
            .seed = 2417, .transformed_parameters = which & 1, .generated_quantities = which & 2};
        t = nf_target_stan(FAKE("threads"), " {}", &o);
        const size_t width = D + (which & 1) + (which & 2);
        cr_assert_eq(nf_target_n_outputs(t), width);
        for (size_t k = 0; k < width; k++)
            cr_assert_str_eq(nf_target_output_name(t, k), names[k < D || which & 1 ? k : k + 1]);
        double again[N * 8];
        cr_assert_eq(nf_target_outputs(t, N, x, y), NF_OK);
        cr_assert_eq(nf_target_outputs(t, N, x, again), NF_OK);
        cr_assert_arr_eq(y, again, N * width * sizeof *y, "generated quantities begin with the seed at each call");
        for (size_t i = 0; i < N; i++) {
            const double *row = y + i * width;
            cr_assert_float_eq(row[0], exp(x[i * D]), 1e-14 * row[0]);
            cr_assert_arr_eq(row + 1, x + i * D + 1, (D - 1) * sizeof *row);
            if (which & 1)
                cr_assert_float_eq(row[D], exp(x[i * D] / 2), 1e-14 * row[D]);
            if (which & 2)
                cr_assert(row[width - 2] == 2417 && (i == 0 || row[width - 1] != row[-1]), "one stream for all rows");
        }
        nf_target_free(t);
    }
    cr_assert_eq(*counter(FAKE("threads"), "fake_alive"), 0);
}

Test(stan, rejections)
{
    static double x[N * D], log_p[N], grad[N * D], y[N * D];
    unsigned char rejected[N];
    fill(x);
    atomic_int *alive = counter(FAKE("threads"), "fake_alive"), *messages = counter(FAKE("threads"), "fake_messages");
    for (int gradient = 0; gradient < 2; gradient++) {
        nf_target *t = nf_target_stan(FAKE("threads"), "{\"fence\": 1}", NULL);
        const int said = *messages;
        cr_assert_eq(nf_target_eval(t, N, x, log_p, gradient ? grad : NULL, rejected), NF_OK);
        cr_assert_eq(*messages, said + 1, "the text is asked for once a batch");
        size_t first = N;
        for (size_t i = N; i-- > 0;) {
            cr_assert_eq(rejected[i], x[i * D] > 1);
            cr_assert(rejected[i] ? log_p[i] == -INFINITY : isfinite(log_p[i]));
            if (rejected[i] && gradient)
                cr_assert(grad[i * D] == 0 && grad[i * D + 4] == 0);
            first = rejected[i] ? i : first;
        }
        cr_assert(first > 0 && first < N);
        char words[96];
        snprintf(words, sizeof words, "Exception: funnel: y is %.4f, but must not be beyond the fence", x[first * D]);
        cr_assert_str_eq(nf_target_rejection(t), words);
        nf_target_counts c;
        nf_target_count(t, &c);
        cr_assert(c.rejected > 5 && c.gradients == (gradient ? N : 0) && c.values == (gradient ? 0 : N) &&
                  c.calls == 1);
        cr_assert_eq(nf_target_outputs(t, N, x, y), NF_OK);
        for (size_t i = 0; i < N * D; i++)
            cr_assert(rejected[i / D] ? isnan(y[i]) : isfinite(y[i]));
        nf_target_free(t);
    }
    nf_target *t = nf_target_stan(FAKE("threads"), "{\"nan\": 1}", NULL);
    cr_assert_eq(nf_target_eval(t, N, x, log_p, grad, rejected), NF_OK);
    for (size_t i = 0; i < N; i++)
        cr_assert_eq(rejected[i], x[i * D] > 1);
    cr_assert(strstr(nf_target_rejection(t), "log p is nan at ("), "%s", nf_target_rejection(t));
    nf_target_free(t);
    cr_assert_eq(*alive, 0);
}

/* A fit by several threads: of a serial library no calls overlap, and both give the same numbers. */
Test(stan, threads)
{
    enum { DRAWS = 400 };
    double loss[2];
    for (int serial = 0; serial < 2; serial++) {
        const char *path = serial ? FAKE("serial") : FAKE("threads");
        nf_target *t = nf_target_stan(path, "{\"fence\": 1}", NULL);
        cr_assert_eq(nf_target_rule(t), serial ? NF_SERIAL : NF_THREADSAFE);
        nf_model *m = nf_model_of_dist(nf_normal(D), NULL);
        nf_objective *o = nf_elbo(m, t, &(nf_elbo_options){.draws = DRAWS});
        nf_workspace *ws = nf_workspace_new(4);
        nf_step_report r;
        for (uint64_t step = 0; step < 20; step++)
            cr_assert_eq(nf_objective_value(o, ws, 5, step, &r), NF_OK, "%s", nf_error_message());
        loss[serial] = r.loss;
        nf_objective_free(o);
        nf_workspace_free(ws);
        nf_model_free(m);
        nf_target_free(t);
        if (serial)
            cr_assert_eq(*counter(path, "fake_overlapped"), 0);
        cr_assert_eq(*counter(path, "fake_alive"), 0);
    }
    cr_assert_eq(loss[0], loss[1]);
}

static void *value_and_outputs(void *target)
{
    const double x[D] = {0.3, -0.7, 1.1, 0.2, -0.4};
    double log_p, y[D];
    cr_assert_eq(nf_target_eval(target, 1, x, &log_p, NULL, NULL), NF_OK);
    cr_assert_eq(nf_target_outputs(target, 1, x, y), NF_OK);
    return NULL;
}

Test(stan, an_older_version_is_woken_by_a_gradient)
{
    nf_target *t = nf_target_stan(FAKE("2_4"), "{}", NULL);
    cr_assert_not_null(t, "%s", nf_error_message());
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, value_and_outputs, t), 0);
    pthread_join(thread, NULL);
    cr_assert_eq(*counter(FAKE("2_4"), "fake_asleep"), 0);
    nf_target_free(t);
}

static char printed[256];
static void print(const char *text, size_t size)
{
    strncat(printed, text, size);
}

/* What a model prints goes to the callback, else nowhere. */
Test(stan, prints)
{
    const double x[D] = {0.3, -0.7, 1.1, 0.2, -0.4};
    double log_p, grad[D];
    int pipe_[2];
    fflush(stdout);
    const int kept = dup(STDOUT_FILENO);
    cr_assert_eq(pipe(pipe_), 0);
    dup2(pipe_[1], STDOUT_FILENO);
    nf_target *t = nf_target_stan(FAKE("threads"), "{\"print\": 1}", NULL);
    const nf_status st = nf_target_eval(t, 1, x, &log_p, grad, NULL);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(pipe_[1]);
    char there[8];
    cr_assert_eq(read(pipe_[0], there, sizeof there), 0, "nothing was printed");
    close(pipe_[0]);
    close(kept);
    cr_assert_eq(st, NF_OK);
    nf_target_free(t);
    t = nf_target_stan(FAKE("threads"), "{\"print\": 1}", &(nf_stan_options){.print = print});
    cr_assert_eq(nf_target_eval(t, 1, x, &log_p, grad, NULL), NF_OK);
    cr_assert_str_eq(printed, "hello from transformed data\na gradient\n");
    nf_target_free(t);
}

/* One line each. */
static void refused(const char *library, const char *data, nf_status status, const char *words)
{
    nf_error(NF_OK, "-");
    expect_none(nf_target_stan(library, data, NULL), status, words);
    cr_assert(strncmp(nf_error_message(), "nf_target_stan: ", 16) == 0, "%s", nf_error_message());
    cr_assert_null(strchr(nf_error_message(), '\n'), "%s", nf_error_message());
}

Test(stan, what_is_refused)
{
    char path[64];
    const char *libm = "/lib/x86_64-linux-gnu/libm.so.6";
    refused(NULL, NULL, NF_EARG, "`library` is NULL");
    refused("there/is/none.so", NULL, NF_EIO, "cannot open the model's library: there/is/none.so");
    refused("none.so", NULL, NF_EIO, "cannot open the model's library: ./none.so");
    const char *folder = temp_folder();
    snprintf(path, sizeof path, "%s/text.so", folder);
    file_write(path, "this is no library, but a text", 30);
    refused(path, NULL, NF_EIO, "text.so: ");
    temp_remove(folder);
    if (access(libm, R_OK) == 0)
        refused(libm, NULL, NF_EFORMAT, "is not a library of BridgeStan: it has no bs_model_construct()");
    refused(FAKE("1"), "{}", NF_EUNSUPPORTED, "is of BridgeStan 1.0.0, but must be of version 2");
    refused(FAKE("3"), "{}", NF_EUNSUPPORTED, "is of BridgeStan 3.0.0, but must be of version 2");
    refused(FAKE("incomplete"), "{}", NF_EFORMAT, "it has no bs_rng_construct()");
    refused(FAKE("unnumbered"), "{}", NF_EFORMAT, "it has no bs_major_version");
    refused(FAKE("threads"), NULL, NF_ETARGET,
            "refuses to be without data: Exception: variable does not exist; variable name=J");
    refused(FAKE("threads"), "{\"wrong\": 1}", NF_ETARGET,
            "refuses its data: Exception: y has a value that is out of bounds (in 'funnel.stan', line 3, column 2)");
    refused(FAKE("threads"), "there/is/none.json", NF_EIO, "cannot read the data file `there/is/none.json`");
    refused(FAKE("threads"), "data.R", NF_EARG, "neither a path that ends in .json nor the text of a JSON object");
    refused(FAKE("threads"), "{\"empty\": 1}", NF_EARG, "has no parameters");
    refused(FAKE("threads"), "{\"names\": 1}", NF_EFORMAT, "has 5 outputs, but gives 4 names");
    nf_target *t = nf_target_stan(FAKE("threads"), "{}", &(nf_stan_options){.seed = 13, .generated_quantities = true});
    const double x[D] = {0.3};
    double y[8];
    expect(nf_target_outputs(t, 1, x, y), NF_ETARGET, "no random numbers: 13 is no seed");
    nf_target_free(t);
    cr_assert_eq(*counter(FAKE("threads"), "fake_alive"), 0);
}

Test(stan, failing_allocations)
{
    const double x[D] = {0.3, -0.7, 1.1, 0.2, -0.4};
    size_t failures = 0;
    const size_t before = alloc_live();
    for (size_t k = 0;; k++) {
        double log_p, y[D];
        fail_alloc_after(k);
        nf_target *t = nf_target_stan(FAKE("2_4"), "{}", NULL);
        nf_status st = t ? nf_target_eval(t, 1, x, &log_p, NULL, NULL) : nf_error_status();
        if (st == NF_OK)
            st = nf_target_outputs(t, 1, x, y);
        const bool failed = fail_alloc_off();
        cr_assert_eq(st == NF_OK, !failed, "%s", nf_error_message());
        cr_assert(!failed || st == NF_ENOMEM || (st == NF_ETARGET && strstr(nf_error_message(), "out of memory")));
        nf_target_free(t);
        cr_assert_eq(alloc_live(), before);
        cr_assert_eq(*counter(FAKE("2_4"), "fake_alive"), 0);
        if (!failed)
            break;
        failures++;
    }
    cr_assert_geq(failures, 6);
}
