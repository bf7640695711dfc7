/* What other packages compute: JSON files of tests/peers, and a model beside them. */
#ifndef PEER_FILE_H
#define PEER_FILE_H
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdlib.h>

/* Of the number, or of 1 if that is larger; times a file's slack. */
#ifdef NF_SINGLE
static const double peer_tolerance = 1e-5;
#else
static const double peer_tolerance = 2e-12;
#endif

static inline json_t *peer_file(const char *path)
{
    json_error_t error;
    json_t *file = json_load_file(path, 0, &error);
    cr_assert_not_null(file, "%s:%d: %s", path, error.line, error.text);
    return file;
}

static inline size_t size_of(const json_t *o, const char *name)
{
    return (size_t)json_integer_value(json_object_get(o, name));
}

/* A list, or a list of lists, row after row; NULL if there is none. */
static inline double *numbers_of(const json_t *file, const char *name, size_t *n)
{
    const json_t *list = json_object_get(file, name);
    const size_t rows = json_array_size(list), width = json_array_size(json_array_get(list, 0));
    *n = width ? rows * width : rows;
    if (*n == 0)
        return NULL;
    double *a = malloc(*n * sizeof *a);
    cr_assert_not_null(a);
    for (size_t i = 0; i < *n; i++) {
        const json_t *x = width ? json_array_get(json_array_get(list, i / width), i % width) : json_array_get(list, i);
        cr_assert(json_is_number(x), "%s: item %zu is not a number", name, i);
        a[i] = json_number_value(x);
    }
    return a;
}

static inline nf_real *reals_of(const json_t *file, const char *name, size_t *n)
{
    double *a = numbers_of(file, name, n);
    nf_real *r = a ? malloc(*n * sizeof *r) : NULL;
    for (size_t i = 0; r && i < *n; i++)
        r[i] = (nf_real)a[i];
    free(a);
    return r;
}

static inline void check_near(const char *peer, double slack, const char *what, size_t i, double ours, double theirs)
{
    cr_assert(fabs(ours - theirs) <= slack * peer_tolerance * fmax(1, fabs(theirs)),
              "%s: %s %zu is %.12g, theirs %.12g", peer, what, i, ours, theirs);
}

/* The model's log-densities at `x`, and where it takes the numbers `z` of a standard normal (if there are any): those
   of the file. */
static inline void compare_with_peer(const char *peer, double slack, const json_t *file, const nf_model *m)
{
    const size_t dim = size_of(file, "dim"), need = nf_model_shape(m)->n_ctx;
    size_t n_x, n_z, n, n_ctx, n_y;
    nf_real *x = reals_of(file, "x", &n_x), *z = reals_of(file, "z", &n_z), *ctx = reals_of(file, "ctx", &n_ctx),
            *z_ctx = reals_of(file, "z_ctx", &n_ctx);
    double *theirs_p = numbers_of(file, "log_prob", &n), *theirs_y = numbers_of(file, "sample", &n_y);
    cr_assert(n > 0 && n_x == n * dim && n_y == n_z && (n_z == n * dim || n_z == 0));
    cr_assert_eq(n_ctx, n * need, "%s: context of %zu numbers for %zu rows", peer, n_ctx, n);
    nf_real *y = malloc(n * dim * sizeof *y);
    double *p = malloc(n * sizeof *p);
    cr_assert(y && p);
    cr_assert_eq(nf_log_prob(m, NULL, NULL, n, x, ctx, p), NF_OK, "%s: %s", peer, nf_error_message());
    for (size_t i = 0; i < n; i++)
        check_near(peer, slack, "log-density", i, p[i], theirs_p[i]);
    if (z)
        cr_assert_eq(nf_transform(m, NULL, NULL, NF_FORWARD, n, z, z_ctx, y, NULL), NF_OK, "%s: %s", peer,
                     nf_error_message());
    for (size_t i = 0; i < n_z; i++)
        check_near(peer, slack, "sample's number", i, (double)y[i], theirs_y[i]);
    free(x), free(z), free(ctx), free(z_ctx), free(theirs_p), free(theirs_y), free(y), free(p);
}

#endif
