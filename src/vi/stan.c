/*
 * Targets from Stan models, through the C interface of BridgeStan (stan_library.h):
 *
 *     log p(x) = bs_log_density with propto off and the Jacobian on,
 *
 * the density of the unconstrained parameters with all constants. With propto on, the value alone would cost a
 * gradient.
 *
 * A failing call leaves its results as they were. It costs about 30 gradients, since C++ throws, and a text besides,
 * which is asked for once a batch only: that of the first rejected point.
 */
#include "base/memory.h"
#include "vi/stan_library.h"
#include "vi/target.h"
#include <math.h>
#include <nflow/stan.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct stan {
    nfi_stan_library lib;
    bs_model *model;
    bool transformed, generated;
    bool wake; /* a version with a race between the first calls of threads: see wake() */
    unsigned seed;
    size_t n_outputs;
} stan;

/* Stan's messages have several lines. */
static void one_line(const char *from, char *to, size_t size)
{
    size_t n = 0;
    bool space = false;
    for (; *from && n + 2 < size; from++) {
        const bool blank = (unsigned char)*from <= ' ';
        if (!blank && space && n)
            to[n++] = ' ';
        if (!blank)
            to[n++] = *from;
        space = blank;
    }
    to[n] = 0;
}

/* Takes the model's message, and leaves it with `what` in front as the error message. */
static nf_status fail(const stan *q, nf_status status, const char *what, char *message)
{
    char text[NFI_MESSAGE_SIZE];
    one_line(message ? message : "it does not say why", text, sizeof text);
    if (message)
        q->lib.free_error_msg(message);
    return nf_error(status, "%s%s", what, text);
}

/* ---- the density ---- */

/* Before 2.7.0, a thread whose first call is not a gradient races with others (BridgeStan's issues 272 and 289). */
static int wake(const stan *q, size_t d, const double *x)
{
    double log_p, *grad = nfi_calloc(d, sizeof *grad);
    if (!grad)
        return (int)nf_error(NF_ETARGET, "nf_target_stan: %s", nf_error_message());
    (void)q->lib.log_density_gradient(q->model, false, true, x, &log_p, grad, NULL);
    nfi_free(grad);
    return 0;
}

/* An nf_target_fn. */
static int density(void *user, size_t n, size_t d, const double *x, double *log_p, double *grad,
                   unsigned char *rejected)
{
    const stan *q = user;
    char *message = NULL, **wanted = &message;
    if (q->wake && !grad && wake(q, d, x) != 0)
        return NF_ETARGET;
    for (size_t i = 0; i < n; i++) {
        const double *at = x + i * d;
        rejected[i] =
            0 != (grad ? q->lib.log_density_gradient(q->model, false, true, at, log_p + i, grad + i * d, wanted)
                       : q->lib.log_density(q->model, false, true, at, log_p + i, wanted));
        if (rejected[i] && wanted) {
            fail(q, NF_ETARGET, "", message);
            wanted = NULL;
        }
    }
    return 0;
}

/* An nf_outputs_fn. */
static int constrained(void *user, size_t n, size_t d, const double *x, double *y)
{
    const stan *q = user;
    char *message = NULL;
    bs_rng *rng = NULL;
    if (q->wake && wake(q, d, x) != 0)
        return NF_ETARGET;
    if (q->generated && !(rng = q->lib.rng_construct(q->seed, &message)))
        return (int)fail(q, NF_ETARGET, "nf_target_stan: no random numbers: ", message);
    for (size_t i = 0; i < n; i++) {
        double *row = y + i * q->n_outputs;
        if (q->lib.param_constrain(q->model, q->transformed, q->generated, x + i * d, row, rng, NULL) != 0)
            for (size_t k = 0; k < q->n_outputs; k++)
                row[k] = NAN;
    }
    if (rng)
        q->lib.rng_destruct(rng);
    return 0;
}

/* ---- the model ---- */

static void discard(const char *text, size_t size)
{
    (void)text, (void)size;
}

static void destroy(void *user)
{
    stan *q = user;
    if (q->model)
        q->lib.model_destruct(q->model);
    nfi_free(q);
}

/* Whether `data` is a path rather than JSON text. */
static bool is_path(const char *data)
{
    const size_t length = strlen(data);
    return length >= 5 && strcmp(data + length - 5, ".json") == 0;
}

static nf_status make_model(stan *q, const char *who, const char *path, const char *data, const nf_stan_options *o)
{
    nf_status status = nfi_stan_open(who, path, &q->lib);
    if (status != NF_OK)
        return status;
    if (data && is_path(data) && access(data, R_OK) != 0)
        return nf_error(NF_EIO, "%s: cannot read the data file `%s`", who, data);
    if (data && !is_path(data) && *data && data[strspn(data, " \t\r\n")] != '{')
        return nf_error(NF_EARG, "%s: `data` is neither a path that ends in .json nor the text of a JSON object", who);
    char *message = NULL, what[NFI_MESSAGE_SIZE / 2];
    if (q->lib.set_print_callback && q->lib.set_print_callback(o->print ? o->print : discard, &message) != 0)
        return fail(q, NF_ETARGET, "nf_target_stan: the library takes no print callback: ", message);
    q->model = q->lib.model_construct(data, q->seed, &message);
    snprintf(what, sizeof what, "%s: `%s` refuses %s: ", who, path, data && *data ? "its data" : "to be without data");
    if (!q->model)
        return fail(q, NF_ETARGET, what, message);
    if (q->lib.param_unc_num(q->model) <= 0)
        return nf_error(NF_EARG, "%s: the model of `%s` has no parameters", who, path);
    return NF_OK;
}

/* Declares the outputs: the model's names stand in one text, with commas in between. */
static nf_target *name_outputs(nf_target *t, stan *q, const char *who)
{
    const int said = q->lib.param_num(q->model, q->transformed, q->generated);
    const char *text = q->lib.param_names(q->model, q->transformed, q->generated);
    size_t n = text && *text ? 1 : 0, length = 0;
    for (; text && text[length]; length++)
        n += text[length] == ',';
    if (said <= 0 || n != (size_t)said) {
        nf_error(NF_EFORMAT, "%s: the library says that the model has %d outputs, but gives %zu names", who, said, n);
        nf_target_free(t);
        return NULL;
    }
    q->n_outputs = n;
    const char **names = nfi_calloc(1, n * sizeof *names + length + 1); /* no overflow: they are shorter than 9 texts */
    if (!names) {
        nf_target_free(t);
        return NULL;
    }
    char *copy = memcpy(names + n, text, length + 1);
    for (size_t k = 0; k < n; k++) {
        names[k] = copy;
        copy += strcspn(copy, ",");
        *copy++ = 0;
    }
    t = nf_target_with_outputs(t, n, names, constrained, q);
    nfi_free(names);
    return t;
}

nf_target *nf_target_stan(const char *library, const char *data, const nf_stan_options *options)
{
    static const char who[] = "nf_target_stan";
    static const nf_stan_options none;
    const nf_stan_options *o = options ? options : &none;
    if (!library) {
        nf_error(NF_EARG, "%s: `library` is NULL", who);
        return NULL;
    }
    stan *q = nfi_calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->seed = o->seed;
    q->transformed = o->transformed_parameters;
    q->generated = o->generated_quantities;
    if (make_model(q, who, library, data, o) != NF_OK) {
        destroy(q);
        return NULL;
    }
    const char *info = q->lib.model_info(q->model);
    const bool threads = info && strstr(info, "STAN_THREADS=true");
    q->wake = threads && q->lib.version[1] < 7;
    nf_target *t =
        nf_target_callback((size_t)q->lib.param_unc_num(q->model), density, q, threads ? NF_THREADSAFE : NF_SERIAL);
    t = nf_target_own(t, q, destroy);
    return t ? name_outputs(t, q, who) : NULL;
}
