/* Outputs: the numbers of a point on the scale on which its author thinks, and their names. A target without outputs of
   its own gives the point's coordinates, "x.1" to "x.d"; one that was pulled back, those of the target behind it. */
#include "base/memory.h"
#include "vi/target.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Default names have places of equal size: "x.", the digits of d, the end. */
static size_t place_size(size_t d)
{
    size_t digits = 1;
    for (; d > 9; d /= 10)
        digits++;
    return digits + sizeof "x.";
}

bool nfi_default_names_size(size_t d, size_t *bytes)
{
    return nfi_mul(d, place_size(d), bytes);
}

void nfi_default_names(size_t d, char *names)
{
    const size_t size = place_size(d);
    for (size_t k = 0; k < d; k++)
        snprintf(names + k * size, size, "x.%zu", k + 1);
}

/* ---- names that were given ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names become columns of files. */
static nf_status check_name(const char *who, size_t k, const char *name)
{
    if (!name || !name[0])
        return nf_error(NF_EARG, "%s: name %zu is %s", who, k + 1, name ? "empty" : "NULL");
    for (const char *c = name; *c; c++)
        if (*c == ',' || *c == '"' || (unsigned char)*c < 0x20)
            return nf_error(NF_EARG, "%s: name %zu, `%s`, has a comma, a quote or a control character", who, k + 1,
                            name);
    return NF_OK;
}

static nf_status check_distinct(const char *who, size_t n, const char *const *names)
{
    const char **sorted = nfi_calloc(n, sizeof *sorted);
    if (!sorted)
        return NF_ENOMEM;
    memcpy(sorted, names, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_text);
    nf_status status = NF_OK;
    for (size_t k = 1; k < n && status == NF_OK; k++)
        if (strcmp(sorted[k - 1], sorted[k]) == 0)
            status = nf_error(NF_EARG, "%s: two outputs have the name `%s`", who, sorted[k]);
    nfi_free(sorted);
    return status;
}

nf_status nfi_check_names(const char *who, size_t n, const char *const *names)
{
    for (size_t k = 0; k < n; k++) {
        const nf_status status = check_name(who, k, names[k]);
        if (status != NF_OK)
            return status;
    }
    return check_distinct(who, n, names);
}

/* A copy of n names in one block: their addresses, then the text. */
static char **copy_names(const char *who, size_t n, const char *const *names)
{
    if (nfi_check_names(who, n, names) != NF_OK)
        return NULL;
    size_t bytes = 0;
    bool fits = nfi_mul(n, sizeof(char *), &bytes);
    for (size_t k = 0; k < n && fits; k++)
        fits = nfi_add(bytes, strlen(names[k]) + 1, &bytes);
    if (!fits) {
        nf_error(NF_ENOMEM, "%s: %zu names do not fit in memory", who, n);
        return NULL;
    }
    char **copy = nfi_calloc(bytes, 1);
    if (!copy)
        return NULL;
    char *text = (char *)(copy + n);
    for (size_t k = 0; k < n; k++) {
        const size_t size = strlen(names[k]) + 1;
        copy[k] = memcpy(text, names[k], size);
        text += size;
    }
    return copy;
}

nf_target *nf_target_with_outputs(nf_target *t, size_t n, const char *const *names, nf_outputs_fn *f, void *user)
{
    static const char who[] = "nf_target_with_outputs";
    char **copy = NULL;
    if (!t)
        nfi_missing(who, "`t`");
    else if (n == 0 || !names)
        nf_error(NF_EARG, "%s: %s", who, n ? "`names` is NULL" : "n is 0, but an output is needed");
    else if (!f && n != t->d)
        nf_error(NF_EDIM, "%s: %zu names without `f`, but a point has %zu coordinates", who, n, t->d);
    else
        copy = copy_names(who, n, names);
    if (!copy) {
        nf_target_free(t);
        return NULL;
    }
    nfi_free(t->outputs.names);
    t->outputs.names = copy;
    t->outputs.n = n;
    t->outputs.f = f;
    t->outputs.user = user;
    t->outputs.point_first = false;
    return t;
}

nf_status nfi_target_name_point(nf_target *t, const char *who, const char *const *names)
{
    nfi_outputs *o = &t->outputs;
    const size_t more = o->f ? nf_target_n_outputs(t) : 0, n = t->d + more; /* no overflow: all these have names */
    const char **all = nfi_calloc(n, sizeof *all);
    if (!all)
        return NF_ENOMEM;
    memcpy(all, names, t->d * sizeof *all);
    for (size_t k = 0; k < more; k++)
        all[t->d + k] = nf_target_output_name(t, k);
    char **copy = copy_names(who, n, all);
    nfi_free(all);
    if (!copy)
        return nf_error_status();
    nfi_free(o->names);
    o->names = copy;
    o->n = n;
    o->point_first = more > 0;
    return NF_OK;
}

/* ---- what a target says ---- */

size_t nf_target_n_outputs(const nf_target *t)
{
    if (!t)
        return 0;
    return t->outputs.names ? t->outputs.n : t->behind ? nf_target_n_outputs(t->behind) : t->d;
}

const char *nf_target_output_name(const nf_target *t, size_t k)
{
    if (k >= nf_target_n_outputs(t))
        return NULL;
    if (t->outputs.names)
        return t->outputs.names[k];
    return t->behind ? nf_target_output_name(t->behind, k) : t->outputs.default_names + k * place_size(t->d);
}

/* The callback's outputs behind the point's coordinates: y [n x (d + more)]. */
static int after_point(const nf_target *t, size_t n, size_t more, const double *x, double *y)
{
    const size_t d = t->d, width = d + more;
    double *theirs = nfi_calloc(n, more * sizeof *theirs); /* no overflow: y is longer */
    if (!theirs)
        return (int)nf_error(NF_ETARGET, "nf_target_outputs: %s", nf_error_message());
    for (size_t i = 0; i < n * more; i++) /* what the callback does not write */
        theirs[i] = NAN;
    const int code = t->outputs.f(t->outputs.user, n, d, x, theirs);
    for (size_t i = 0; i < n && code == 0; i++) {
        memcpy(y + i * width, x + i * d, d * sizeof *y);
        memcpy(y + i * width + d, theirs + i * more, more * sizeof *y);
    }
    nfi_free(theirs);
    return code;
}

nf_status nf_target_outputs(const nf_target *t, size_t n, const double *x, double *y)
{
    if (!t || !x || !y)
        return nf_error(NF_EARG, "nf_target_outputs: %s is NULL", !t ? "t" : !x ? "x" : "y");
    const size_t width = nf_target_n_outputs(t);
    const nfi_outputs *o = &t->outputs;
    if (!o->f) {
        memcpy(y, x, n * t->d * sizeof *y);
        return NF_OK;
    }
    for (size_t i = 0; i < n * width; i++) /* likewise */
        y[i] = NAN;
    nfi_message kept;
    nfi_message_set_aside(&kept);
    int code = 0;
    if (n)
        code = o->point_first ? after_point(t, n, width - t->d, x, y) : o->f(o->user, n, t->d, x, y);
    if (code != 0)
        return nf_error_status() == NF_ETARGET /* the callback itself has called nf_error */
                   ? NF_ETARGET
                   : nf_error(NF_ETARGET, "the callback of the target's outputs returned %d for a batch of %zu points",
                              code, n);
    nfi_message_put_back(&kept);
    return NF_OK;
}
