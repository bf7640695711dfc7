/* Other packages' flows, with their weights: log-density and samples agree. tests/peers/export.py wrote the files,
   whose numbers stand in nflow's own layouts. */
#include <criterion/criterion.h>
#include <math.h>
#include <nflow/nflow.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef NFI_JANSSON
Test(peers, are_read_by_jansson)
{
    cr_skip_test("peers: this build has no Jansson to read tests/peers/*.json with");
}
#else
#include <jansson.h>

#ifdef NF_SINGLE
static const double tolerance = 1e-4; /* of 1 + the number */
#else
static const double tolerance = 1e-9;
#endif

enum { MAX_LAYERS = 16 };

/* ---- structure ---- */

static nf_flow *permutation(const json_t *layer, size_t dim)
{
    size_t order[64];
    const json_t *list = json_object_get(layer, "order");
    cr_assert_eq(json_array_size(list), dim);
    for (size_t i = 0; i < dim; i++)
        order[i] = (size_t)json_integer_value(json_array_get(list, i));
    return nf_permutation(dim, order);
}

static nf_flow *layer_of(const json_t *layer, size_t dim)
{
    const char *kind = json_string_value(json_object_get(layer, "layer"));
    cr_assert_not_null(kind);
    nf_flow *f = NULL;
    if (strcmp(kind, "planar") == 0)
        f = nf_planar(dim);
    else if (strcmp(kind, "permutation") == 0)
        f = permutation(layer, dim);
    else
        cr_assert_fail("no layer \"%s\" here", kind);
    return json_is_true(json_object_get(layer, "invert")) ? nf_invert(f) : f;
}

static nf_dist *dist_of(const json_t *file, size_t dim)
{
    const json_t *list = json_object_get(file, "layers");
    const size_t n = json_array_size(list);
    nf_flow *layers[MAX_LAYERS];
    cr_assert(n >= 1 && n <= MAX_LAYERS);
    for (size_t k = 0; k < n; k++)
        layers[k] = layer_of(json_array_get(list, k), dim);
    nf_dist *d = nf_pushforward(nf_normal(dim), nf_chain(layers, n));
    cr_assert_not_null(d, "%s", nf_error_message());
    return d;
}

/* ---- numbers ---- */

/* A list, or a list of lists, row after row; NULL if there is none. */
static double *numbers_of(const json_t *file, const char *name, size_t *n)
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

static nf_real *reals_of(const json_t *file, const char *name, size_t *n)
{
    double *a = numbers_of(file, name, n);
    nf_real *r = a ? malloc(*n * sizeof *r) : NULL;
    for (size_t i = 0; r && i < *n; i++)
        r[i] = (nf_real)a[i];
    free(a);
    return r;
}

static void check_near(const char *peer, const char *what, size_t i, double ours, double theirs)
{
    cr_assert(fabs(ours - theirs) <= tolerance * (1 + fabs(theirs)), "%s: %s %zu is %.12g, theirs %.12g", peer, what, i,
              ours, theirs);
}

/* ---- the comparison ---- */

static void check(const char *peer)
{
    char path[128];
    snprintf(path, sizeof path, "tests/peers/%s.json", peer);
    json_error_t error;
    json_t *file = json_load_file(path, 0, &error);
    if (!file && error.line <= 0)
        cr_skip_test("peers: %s is not here", path);
    cr_assert_not_null(file, "%s:%d: %s", path, error.line, error.text);

    const size_t dim = (size_t)json_integer_value(json_object_get(file, "dim"));
    size_t n_theta, n_x, n_z, n, n_ctx, n_y;
    nf_real *theta = reals_of(file, "theta", &n_theta), *x = reals_of(file, "x", &n_x), *z = reals_of(file, "z", &n_z),
            *ctx = reals_of(file, "ctx", &n_ctx), *z_ctx = reals_of(file, "z_ctx", &n_ctx);
    double *theirs_p = numbers_of(file, "log_prob", &n), *theirs_y = numbers_of(file, "sample", &n_y);
    nf_dist *d = dist_of(file, dim);
    cr_assert(n > 0 && n_x == n * dim && n_z == n * dim && n_y == n * dim);
    cr_assert_eq(n_ctx, n * nf_dist_shape(d)->n_ctx, "%s: context of %zu numbers for %zu rows", peer, n_ctx, n);
    cr_assert_eq(n_theta, nf_dist_shape(d)->n_params, "%s: %zu parameters, ours has %zu", peer, n_theta,
                 nf_dist_shape(d)->n_params);

    nf_model *m = nf_model_new(d, &(nf_model_options){.theta = theta});
    nf_real *y = malloc(n * dim * sizeof *y);
    double *p = malloc(n * sizeof *p);
    cr_assert(m && y && p);
    cr_assert_eq(nf_log_prob(m, NULL, n, x, ctx, p), NF_OK, "%s: %s", peer, nf_error_message());
    cr_assert_eq(nf_transform(m, NULL, NF_FORWARD, n, z, z_ctx, y, NULL), NF_OK, "%s: %s", peer, nf_error_message());
    for (size_t i = 0; i < n; i++)
        check_near(peer, "log-density", i, p[i], theirs_p[i]);
    for (size_t i = 0; i < n * dim; i++)
        check_near(peer, "sample's number", i, (double)y[i], theirs_y[i]);

    nf_model_free(m);
    free(theta), free(x), free(z), free(ctx), free(z_ctx), free(theirs_p), free(theirs_y), free(y), free(p);
    json_decref(file);
}

Test(peers, planar)
{
    check("planar-normflows");
    check("planar-flowjax");
}
#endif
