/* The tensors of a state dict: found by their names, checked, and taken once each. What has no name that the flow's
   architecture gives is left over at the end, which is an error. */
#include "import/import.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_ROOM = 512, SHAPE_ROOM = 128 };

void *nfi_import_fail(nfi_import *im, nf_status status, const char *format, ...)
{
    if (im->status != NF_OK)
        return NULL;
    char text[NAME_ROOM];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    im->status = nf_error(status, "nf_import: %s: %s", im->file.path, text);
    return NULL;
}

/* A block of temporary numbers, which begin BLOCK bytes behind it. Each is by itself, and not in an arena, so that
   sanitizers see what is read behind its end. */
typedef struct nfi_block {
    struct nfi_block *before;
} nfi_block;
enum { BLOCK = 64 };

void *nfi_import_memory(nfi_import *im, size_t n, size_t size)
{
    size_t bytes;
    if (im->status != NF_OK)
        return NULL;
    nfi_block *p = nfi_mul(n, size, &bytes) && nfi_add(bytes, BLOCK, &bytes) ? nfi_calloc(bytes, 1) : NULL;
    if (!p) {
        im->status =
            nf_error(NF_ENOMEM, "nf_import: %s: no memory for %zu objects of %zu bytes", im->file.path, n, size);
        return NULL;
    }
    p->before = im->memory;
    im->memory = p;
    return (unsigned char *)p + BLOCK;
}

void nfi_import_free_memory(nfi_import *im)
{
    while (im->memory) {
        nfi_block *before = im->memory->before;
        nfi_free(im->memory);
        im->memory = before;
    }
}

const char *nfi_name(nfi_import *im, const char *format, ...)
{
    char text[NAME_ROOM];
    va_list arguments;
    va_start(arguments, format);
    const int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n >= sizeof text) {
        nfi_import_fail(im, NF_EFORMAT, "the names of tensors nest too deeply");
        return "";
    }
    char *copy = nfi_import_memory(im, (size_t)n + 1, 1);
    return copy ? memcpy(copy, text, (size_t)n) : "";
}

/* The first tensor whose name is not before that. */
static size_t first_from(const nfi_container *c, const char *name)
{
    size_t low = 0, high = c->n_tensors;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (strcmp(c->tensor[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool begins(const nfi_container *c, size_t i, const char *name)
{
    return i < c->n_tensors && strncmp(c->tensor[i].name, name, strlen(name)) == 0;
}

static nfi_tensor *find(nfi_import *im, const char *name)
{
    const size_t i = first_from(&im->file, name);
    return i < im->file.n_tensors && strcmp(im->file.tensor[i].name, name) == 0 ? &im->file.tensor[i] : NULL;
}

const nfi_tensor *nfi_import_peek(nfi_import *im, const char *prefix, const char *last)
{
    const char *name = nfi_name(im, "%s%s", prefix, last);
    return im->status == NF_OK ? find(im, name) : NULL;
}

bool nfi_import_has(nfi_import *im, const char *prefix, const char *last)
{
    return nfi_import_peek(im, prefix, last) != NULL;
}

bool nfi_import_has_any(nfi_import *im, const char *prefix, const char *last)
{
    const char *name = nfi_name(im, "%s%s", prefix, last);
    return im->status == NF_OK && begins(&im->file, first_from(&im->file, name), name);
}

static int by_size(const void *a, const void *b)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

size_t nfi_import_children(nfi_import *im, const char *prefix, const char *last, size_t **index)
{
    const nfi_container *c = &im->file;
    const size_t first = first_from(c, prefix), length = strlen(prefix);
    size_t end = first, n = 0, m = 0;
    while (begins(c, end, prefix))
        end++;
    size_t *list = *index = nfi_import_memory(im, end - first, sizeof *list);
    for (size_t i = first; list && i < end; i++) {
        const char *digits = c->tensor[i].name + length;
        const size_t n_digits = strspn(digits, "0123456789");
        if (n_digits >= 1 && n_digits <= 9 && digits[n_digits] == '.' &&
            strncmp(digits + n_digits + 1, last, strlen(last)) == 0)
            list[n++] = (size_t)strtoul(digits, NULL, 10);
    }
    if (n)
        qsort(list, n, sizeof *list, by_size);
    for (size_t i = 0; i < n; i++)
        if (m == 0 || list[m - 1] != list[i])
            list[m++] = list[i];
    return m;
}

size_t nfi_import_list(nfi_import *im, const char *prefix, const char *last, size_t step)
{
    size_t *index;
    const size_t n = nfi_import_children(im, prefix, last, &index);
    if (n == 0)
        nfi_import_fail(im, NF_EFORMAT, "there is no tensor '%s0.%s'", prefix, last);
    for (size_t i = 0; i < n && im->status == NF_OK; i++)
        if (index[i] != i * step)
            nfi_import_fail(im, NF_EUNSUPPORTED, "no tensor begins with '%s%zu.%s', but one with '%s%zu.%s'", prefix,
                            i * step, last, prefix, index[i], last);
    return im->status == NF_OK ? n : 0;
}

static const char *shape_text(char *text, size_t rank, const size_t *extents)
{
    size_t n = 0;
    text[n++] = '[';
    for (size_t i = 0; i < rank && i < NFI_MAX_RANK; i++)
        n += (size_t)(extents[i] == NFI_ANY ? snprintf(text + n, SHAPE_ROOM - n, "%sany", i ? ", " : "")
                                            : snprintf(text + n, SHAPE_ROOM - n, "%s%zu", i ? ", " : "", extents[i]));
    snprintf(text + n, SHAPE_ROOM - n, "%s]", rank > NFI_MAX_RANK ? ", ..." : "");
    return text;
}

/* Finds a tensor, checks its shape, and marks it as taken. */
static nfi_tensor *take(nfi_import *im, const char *name, size_t rank, size_t *extents)
{
    nfi_tensor *t = im->status == NF_OK ? find(im, name) : NULL;
    if (!t || t->taken)
        return nfi_import_fail(im, NF_EFORMAT, "tensor '%s' %s", name, t ? "is needed twice" : "is missing");
    bool same = t->rank == rank;
    for (size_t i = 0; i < rank && same; i++)
        same = extents[i] == NFI_ANY || extents[i] == t->extents[i];
    char is[SHAPE_ROOM], wanted[SHAPE_ROOM];
    if (!same)
        return nfi_import_fail(im, NF_EFORMAT, "tensor '%s' has the shape %s, expected %s", name,
                               shape_text(is, t->rank, t->extents), shape_text(wanted, rank, extents));
    if (nfi_tensor_width(t) == 0)
        return nfi_import_fail(im, NF_EFORMAT, "tensor '%s' has the dtype %.16s, which this library does not read",
                               name, t->dtype);
    for (size_t i = 0; i < rank; i++)
        extents[i] = t->extents[i];
    t->taken = true;
    return t;
}

double *nfi_import_take(nfi_import *im, const char *prefix, const char *last, size_t rank, size_t *extents)
{
    const nfi_tensor *t = take(im, nfi_name(im, "%s%s", prefix, last), rank, extents);
    double *x = t ? nfi_import_memory(im, t->count, sizeof *x) : NULL;
    for (size_t i = 0; x && i < t->count; i++)
        x[i] = nfi_container_number(&im->file, t, i);
    return x;
}

size_t *nfi_import_take_indices(nfi_import *im, const char *prefix, const char *last, size_t *n, size_t below)
{
    const double *x = nfi_import_take(im, prefix, last, 1, n);
    size_t *list = x ? nfi_import_memory(im, *n, sizeof *list) : NULL;
    for (size_t i = 0; list && i < *n; i++) {
        if (!(x[i] >= 0 && x[i] < (double)below && floor(x[i]) >= x[i]))
            return nfi_import_fail(im, NF_EFORMAT, "tensor '%s%s' has the number %g, expected whole ones below %zu",
                                   prefix, last, x[i], below);
        list[i] = (size_t)x[i];
    }
    return list;
}

size_t *nfi_import_take_order(nfi_import *im, const char *prefix, const char *last, size_t *n)
{
    *n = NFI_ANY;
    size_t *order = nfi_import_take_indices(im, prefix, last, n, (size_t)1 << 53);
    bool *seen = order ? nfi_import_memory(im, *n, sizeof *seen) : NULL;
    for (size_t i = 0; seen && i < *n; i++) {
        if (order[i] >= *n || seen[order[i]])
            return nfi_import_fail(im, NF_EFORMAT, "tensor '%s%s' is no permutation of 0 to %zu: it has %zu", prefix,
                                   last, *n - 1, order[i]);
        seen[order[i]] = true;
    }
    return seen ? order : NULL;
}

void nfi_import_skip(nfi_import *im, const char *prefix, const char *last)
{
    const char *name = nfi_name(im, "%s%s", prefix, last);
    nfi_tensor *t = im->status == NF_OK ? find(im, name) : NULL;
    if (t)
        t->taken = true;
}

void nfi_import_only(nfi_import *im, const char *prefix)
{
    nfi_container *c = &im->file;
    const size_t first = first_from(c, prefix), length = strlen(prefix);
    size_t n = 0;
    for (; begins(c, first + n, prefix); n++) {
        c->tensor[n] = c->tensor[first + n];
        c->tensor[n].name += length;
    }
    c->n_tensors = n;
    if (n == 0)
        nfi_import_fail(im, NF_EFORMAT, "no tensor begins with '%s', the option `prefix`", prefix);
}

void nfi_import_all_taken(nfi_import *im)
{
    char is[SHAPE_ROOM];
    for (size_t i = 0; i < im->file.n_tensors && im->status == NF_OK; i++) {
        const nfi_tensor *t = &im->file.tensor[i];
        if (!t->taken)
            nfi_import_fail(im, NF_EFORMAT, "tensor '%.200s' %s is left over: it is of no layer that was read", t->name,
                            shape_text(is, t->rank, t->extents));
    }
}
