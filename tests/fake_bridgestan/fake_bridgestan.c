/* A library with BridgeStan's interface and without Stan. Its model is Neal's funnel with a positive scale: with y =
   log scale,

       y ~ N(0, 3),  x_k ~ N(0, exp(y / 2)),  k = 1 .. 4,   parameters scale, x.1 .. x.4.

   What else it does, it is told by words in its data, which need not be JSON otherwise: "wrong" (refuses), "print"
   (prints when it is made and at each gradient), "empty" (no parameters), "fence" (fails where y > 1), "nan" (log p is
   NaN there), "names" (one name too few). It is compiled as
     fake_threads     STAN_THREADS=true, version 2.7.0
     fake_serial      STAN_THREADS=false (FAKE_SERIAL); counts calls that overlap
     fake_2_4         STAN_THREADS=true, version 2.4.1 without a print callback (FAKE_2_4); counts threads whose first
   call is no gradient fake_1           version 1.0 (FAKE_1) fake_3           version 3.0.0 (FAKE_3) fake_incomplete
   without bs_rng_construct (FAKE_INCOMPLETE) fake_unnumbered  without version numbers (FAKE_UNNUMBERED) and tells in
   the fake_ variables what is alive and what went wrong. */
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT atomic_int fake_alive;      /* models, random numbers and messages that were not released */
EXPORT atomic_int fake_messages;   /* messages that were made */
EXPORT atomic_int fake_overlapped; /* calls of a serial library during another one */
EXPORT atomic_int fake_asleep;     /* threads whose first call was no gradient */

#ifdef FAKE_1
EXPORT void *bs_construct(const char *path, int seed, int chain)
{
    (void)path, (void)seed, (void)chain;
    return NULL;
}
#else

#if defined FAKE_3
EXPORT const int bs_major_version = 3, bs_minor_version = 0, bs_patch_version = 0;
#elif defined FAKE_2_4
EXPORT int bs_major_version = 2, bs_minor_version = 4, bs_patch_version = 1;
#elif !defined FAKE_UNNUMBERED
EXPORT const int bs_major_version = 2, bs_minor_version = 7, bs_patch_version = 0;
#endif

enum { X = 4 }; /* the funnel's other dimensions */

typedef struct bs_model {
    char info[128];
    bool prints, empty, fence, nan, names;
    double transformed; /* data of the model that depends on the seed */
} bs_model;
typedef struct bs_rng {
    unsigned state;
} bs_rng;

static void (*printer)(const char *text, size_t size);
static atomic_int inside;
static _Thread_local bool awake;

static void say(const char *text)
{
    if (printer)
        printer(text, strlen(text));
    else
        fputs(text, stdout);
}

static int enter(void)
{
    if (atomic_fetch_add(&inside, 1))
        atomic_fetch_add(&fake_overlapped, 1);
    return 0;
}

static int leave(int code)
{
    atomic_fetch_sub(&inside, 1);
    return code;
}

static int fail(char **error, const char *text)
{
    if (error) {
        *error = malloc(strlen(text) + 1);
        if (*error)
            strcpy(*error, text);
        atomic_fetch_add(&fake_alive, 1);
        atomic_fetch_add(&fake_messages, 1);
    }
    return -1;
}

EXPORT void bs_free_error_msg(char *error)
{
    if (error)
        atomic_fetch_sub(&fake_alive, 1);
    free(error);
}

EXPORT bs_model *bs_model_construct(const char *data, unsigned seed, char **error)
{
    const char *words = data ? data : "";
    bs_model *m = calloc(1, sizeof *m);
    if (!m || !data || strstr(words, "wrong")) {
        free(m);
        fail(error, data ? "Exception: y has a value that is out of bounds\n  (in 'funnel.stan', line 3,\n\tcolumn 2)\n"
                         : "Exception: variable does not exist; variable name=J\n");
        return NULL;
    }
#if defined FAKE_SERIAL
    const char *threads = "false";
#else
    const char *threads = "true";
#endif
    snprintf(m->info, sizeof m->info, "Stan version: 2.37.0\nStan C++ Defines:\n\tSTAN_THREADS=%s\n\tSTAN_MPI=false\n",
             threads);
    m->prints = strstr(words, "print");
    m->empty = strstr(words, "empty");
    m->fence = strstr(words, "fence");
    m->nan = strstr(words, "nan");
    m->names = strstr(words, "names");
    m->transformed = seed;
    if (m->prints)
        say("hello from transformed data\n");
    atomic_fetch_add(&fake_alive, 1);
    return m;
}

EXPORT void bs_model_destruct(bs_model *m)
{
    if (m)
        atomic_fetch_sub(&fake_alive, 1);
    free(m);
}

EXPORT const char *bs_model_info(const bs_model *m)
{
    return m->info;
}

EXPORT int bs_param_unc_num(const bs_model *m)
{
    return m->empty ? 0 : X + 1;
}

EXPORT int bs_param_num(const bs_model *m, bool transformed, bool generated)
{
    return m->empty ? 0 : X + 1 + (transformed ? 1 : 0) + (generated ? 2 : 0);
}

EXPORT const char *bs_param_names(const bs_model *m, bool transformed, bool generated)
{
#define PARAMETERS "scale,x.1,x.2,x.3,x.4"
    if (m->empty)
        return "";
    if (m->names)
        return "scale,x.1,x.2,x.3";
    return transformed ? generated ? PARAMETERS ",half,seed,noise" : PARAMETERS ",half"
           : generated ? PARAMETERS ",seed,noise"
                       : PARAMETERS;
}

EXPORT bs_rng *bs_rng_fake(unsigned seed)
{
    bs_rng *rng = malloc(sizeof *rng);
    if (rng) {
        rng->state = seed;
        atomic_fetch_add(&fake_alive, 1);
    }
    return rng;
}

#ifndef FAKE_INCOMPLETE
EXPORT bs_rng *bs_rng_construct(unsigned seed, char **error)
{
    if (seed == 13) {
        fail(error, "13 is no seed");
        return NULL;
    }
    return bs_rng_fake(seed);
}
#endif

EXPORT void bs_rng_destruct(bs_rng *rng)
{
    if (rng)
        atomic_fetch_sub(&fake_alive, 1);
    free(rng);
}

EXPORT int bs_param_constrain(const bs_model *m, bool transformed, bool generated, const double *x, double *y,
                              bs_rng *rng, char **error)
{
    enter();
    if (!awake)
        atomic_fetch_add(&fake_asleep, 1);
    if (m->fence && x[0] > 1)
        return leave(fail(error, "Exception: the scale is beyond the fence"));
    if (generated && !rng)
        return leave(fail(error, "no random numbers"));
    *y++ = exp(x[0]);
    for (size_t k = 0; k < X; k++)
        *y++ = x[1 + k];
    if (transformed)
        *y++ = exp(x[0] / 2);
    if (generated) {
        *y++ = m->transformed;
        *y++ = (double)(rng->state = rng->state * 1664525u + 1013904223u);
    }
    return leave(0);
}

/* The log density, with all constants, and its gradient unless that is NULL. */
static int funnel(const bs_model *m, const double *x, double *log_p, double *grad, char **error)
{
    const double y = x[0], log_2_pi = 1.8378770664093453;
    if (m->fence && y > 1) {
        char text[96];
        snprintf(text, sizeof text, "Exception: funnel:\n  y is %.4f, but must not be beyond the fence\n", y);
        return fail(error, text);
    }
    double sum = 0, slope = -y / 9;
    for (size_t k = 0; k < X; k++)
        sum += x[1 + k] * x[1 + k];
    *log_p = m->nan && y > 1 ? NAN : -y * y / 18 - log(3) - (X + 1) * log_2_pi / 2 - X * y / 2 - sum * exp(-y) / 2;
    slope += sum * exp(-y) / 2 - X / 2.0;
    if (grad)
        grad[0] = slope;
    for (size_t k = 0; k < X && grad; k++)
        grad[1 + k] = -x[1 + k] * exp(-y);
    return 0;
}

EXPORT int bs_log_density(const bs_model *m, bool propto, bool jacobian, const double *x, double *log_p, char **error)
{
    enter();
    if (!awake)
        atomic_fetch_add(&fake_asleep, 1);
    if (propto || !jacobian)
        return leave(fail(error, "not the density that was to be asked for"));
    return leave(funnel(m, x, log_p, NULL, error));
}

EXPORT int bs_log_density_gradient(const bs_model *m, bool propto, bool jacobian, const double *x, double *log_p,
                                   double *grad, char **error)
{
    enter();
    awake = true;
    if (m->prints)
        say("a gradient\n");
    if (propto || !jacobian)
        return leave(fail(error, "not the density that was to be asked for"));
    return leave(funnel(m, x, log_p, grad, error));
}

#ifndef FAKE_2_4
EXPORT int bs_set_print_callback(void (*print)(const char *text, size_t size), char **error)
{
    (void)error;
    printer = print;
    return 0;
}
#endif
#endif
