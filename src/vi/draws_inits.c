/*
 * Initial values in Stan's JSON. Outputs "S.1.1", "S.2.1", "S.1.2", "S.2.2" follow each other in column-major order;
 * JSON has lists of lists, the last index innermost. An element [i_0][i_1].. is the output number
 *
 *     first + i_0 + extent_0 (i_1 + extent_1 (i_2 + ..)).
 */
#include "base/memory.h"
#include "io/text.h"
#include "vi/draws_file.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_INDICES = 16 };

/* A member of the object: a number (rank 0) or an array. */
typedef struct variable {
    const char *name;
    size_t length; /* of the name, without indices */
    size_t first, count, rank, extent[MOST_INDICES];
} variable;

/* ---- names ---- */

/* Reads the indices behind a name: ".2.3". false if that is not what stands there, or if an index is 0. A rank beyond
   MOST_INDICES says that there are more. */
static bool read_indices(const char *text, size_t *rank, size_t *index)
{
    for (*rank = 0; *text; ++*rank) {
        char *end;
        if (text[0] != '.' || text[1] < '1' || text[1] > '9')
            return false;
        const unsigned long long i = strtoull(text + 1, &end, 10);
        if (*rank < MOST_INDICES)
            index[*rank] = (size_t)i;
        text = end;
    }
    return true;
}

/* The name and the indices of output k, whose rank is 0 if it is no element of an array. */
static nf_status read_name(const char *name, variable *v)
{
    const size_t length = strcspn(name, ".");
    *v = (variable){.name = name, .length = length};
    if (strchr(name, ':'))
        return nf_error(NF_EUNSUPPORTED, "nf_save_inits: `%s` is part of a tuple", name);
    if (!read_indices(name + length, &v->rank, v->extent)) {
        v->rank = 0;
        v->length = strlen(name);
    }
    if (v->rank > MOST_INDICES)
        return nf_error(NF_EUNSUPPORTED, "nf_save_inits: `%s` has more than %d indices", name, MOST_INDICES);
    return NF_OK;
}

static bool same_array(const variable *a, const variable *b)
{
    return a->rank > 0 && a->rank == b->rank && a->length == b->length && memcmp(a->name, b->name, a->length) == 0;
}

/* Whether element number `place` of the array has these indices. */
static bool is_element(const variable *array, size_t place, const size_t *index)
{
    for (size_t r = 0; r < array->rank; r++) {
        if (index[r] != place % array->extent[r] + 1)
            return false;
        place /= array->extent[r];
    }
    return place == 0;
}

/* The variable that begins with output `first`: the outputs behind it that are elements of the same array, all there
   and in order. Its extents are the indices of its last element. */
static nf_status read_variable(const nf_draws *d, size_t first, variable *v)
{
    variable next;
    nf_status status = read_name(d->names[first], v);
    const variable begin = *v;
    for (v->count = 1; first + v->count < d->n_outputs && !status; v->count++) {
        status = read_name(d->names[first + v->count], &next);
        if (status || !same_array(&begin, &next))
            break;
        memcpy(v->extent, next.extent, sizeof v->extent);
    }
    v->first = first;
    for (size_t k = 0; k < v->count && !status; k++) {
        status = read_name(d->names[first + k], &next);
        if (!status && !is_element(v, k, next.extent))
            status = nf_error(NF_EARG,
                              "nf_save_inits: `%s` stands where another element of `%.*s` is wanted: arrays are "
                              "complete and in column-major order",
                              d->names[first + k], (int)v->length, v->name);
    }
    return status;
}

static int by_letters(const void *a, const void *b)
{
    const variable *x = a, *y = b;
    const size_t length = x->length < y->length ? x->length : y->length;
    const int order = memcmp(x->name, y->name, length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

/* All variables, v [n_outputs] and as many to sort them. */
static nf_status read_variables(const nf_draws *d, variable *v, size_t *n)
{
    nf_status status = NF_OK;
    *n = 0;
    for (size_t first = 0; first < d->n_outputs && !status; first += v[(*n)++].count)
        status = read_variable(d, first, v + *n);
    variable *sorted = v + d->n_outputs;
    memcpy(sorted, v, *n * sizeof *v);
    qsort(sorted, *n, sizeof *v, by_letters);
    for (size_t k = 1; k < *n && !status; k++)
        if (by_letters(sorted + k - 1, sorted + k) == 0)
            status = nf_error(NF_EARG, "nf_save_inits: `%.*s` is there twice", (int)sorted[k].length, sorted[k].name);
    return status;
}

/* ---- files ---- */

static void put_name(nfi_text *t, const variable *v)
{
    nfi_text_put(t, "\"");
    for (size_t i = 0; i < v->length; i++) {
        nfi_text_put(t, v->name[i] == '\\' ? "\\" : "");
        nfi_text_put_part(t, v->name + i, 1);
    }
    nfi_text_put(t, "\": ");
}

/* The elements whose first `level` indices are fixed, where the first of them is x[at], and elements that differ by 1
   in the next index are `stride` apart. */
static void put_elements(nfi_text *t, const variable *v, size_t level, size_t stride, const double *x)
{
    if (level == v->rank) {
        nfi_text_put_number(t, *x, "\"");
        return;
    }
    for (size_t i = 0; i < v->extent[level]; i++) {
        nfi_text_put(t, i ? ", " : "[");
        put_elements(t, v, level + 1, stride * v->extent[level], x + i * stride);
    }
    nfi_text_put(t, "]");
}

static nf_status write_object(const char *path, size_t n, const variable *v, const double *x)
{
    nfi_text *t = nfi_text_open("nf_save_inits", path);
    if (!t)
        return nf_error_status();
    for (size_t k = 0; k < n; k++) {
        nfi_text_put(t, k ? ",\n  " : "{\n  ");
        put_name(t, v + k);
        put_elements(t, v + k, 0, 1, x + v[k].first);
    }
    nfi_text_put(t, "\n}\n");
    return nfi_text_close(t, NF_OK);
}

/* "inits_3.json" for "inits.json"; without an ending the number comes last. */
static void name_chain(const char *path, size_t chain, size_t room, char *name)
{
    const char *slash = strrchr(path, '/'), *point = strrchr(slash ? slash : path, '.');
    const size_t stem = point && point > path && point[-1] != '/' ? (size_t)(point - path) : strlen(path);
    snprintf(name, room, "%.*s_%zu%s", (int)stem, path, chain, path + stem);
}

static nf_status write_chains(const char *path, const nf_draws *d, size_t chains, const size_t *which, size_t n,
                              const variable *v)
{
    const size_t room = strlen(path) + 32;
    char *name = nfi_calloc(room, 1);
    nf_status status = name ? NF_OK : NF_ENOMEM;
    for (size_t c = 0; c < chains && !status; c++) {
        const double *x = d->values + (which ? which[c] : c) * d->n_outputs;
        if (chains > 1)
            name_chain(path, c + 1, room, name);
        status = write_object(chains > 1 ? name : path, n, v, x);
    }
    nfi_free(name);
    return status;
}

nf_status nf_save_inits(const char *path, const nf_draws *draws, size_t chains, const size_t *which)
{
    nf_status status = nfi_check_draws("nf_save_inits", path, draws, true);
    if (!status && chains == 0)
        status = nf_error(NF_EARG, "nf_save_inits: `chains` is 0");
    for (size_t c = 0; c < chains && !status; c++)
        if ((which ? which[c] : c) >= draws->n)
            status = nf_error(NF_EARG, "nf_save_inits: chain %zu begins at draw %zu, but there are %zu", c + 1,
                              which ? which[c] : c, draws->n);
    if (status)
        return status;
    size_t n;
    variable *v = nfi_calloc(draws->n_outputs, 2 * sizeof *v);
    status = v ? read_variables(draws, v, &n) : NF_ENOMEM;
    if (!status)
        status = write_chains(path, draws, chains, which, n, v);
    nfi_free(v);
    return status;
}
