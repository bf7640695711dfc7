#include "data.h"
#include <jansson.h>
#include <math.h>
#include <nflow/base.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static size_t read_packed(void *buffer, size_t size, void *file)
{
    const int n = gzread(file, buffer, (unsigned)size);
    return n < 0 ? (size_t)-1 : (size_t)n;
}

/* Keeps the first mistake alone. */
static void mistake(data_file *f)
{
    json_decref(f->json);
    f->json = NULL;
}

bool data_path(size_t size, char *path, const char *folder, const char *name)
{
    if (!folder)
        nf_error(NF_EARG, "%s: no folder of data is given (NFLOW_DATA)", name);
    else if (snprintf(path, size, "%s/%s", folder, name) >= (int)size)
        nf_error(NF_EARG, "%s: the folder's name is too long", name);
    else
        return true;
    return false;
}

data_file data_open(const char *folder, const char *name)
{
    data_file f = {.json = NULL};
    if (!data_path(sizeof f.path - sizeof ".gz", f.path, folder, name))
        return f;
    gzFile in = gzopen(f.path, "rb"); /* zlib reads plain files, too */
    if (!in) {
        strcat(f.path, ".gz");
        in = gzopen(f.path, "rb");
    }
    if (!in) {
        nf_error(NF_EIO, "%s/%s: there is no such file of data", folder, name);
        return f;
    }
    json_error_t e;
    f.json = json_load_callback(read_packed, in, 0, &e);
    gzclose(in);
    if (!f.json)
        nf_error(NF_EFORMAT, "%s: line %d: %s", f.path, e.line, e.text);
    return f;
}

static const json_t *field(data_file *f, const char *name)
{
    const json_t *value = f->json ? json_object_get(f->json, name) : NULL;
    if (!value && f->json) {
        nf_error(NF_EFORMAT, "%s: has no `%s`", f->path, name);
        mistake(f);
    }
    return value;
}

size_t data_count(data_file *f, const char *name, size_t least, size_t most)
{
    const json_t *value = field(f, name);
    if (!value)
        return 0;
    const json_int_t n = json_is_integer(value) ? json_integer_value(value) : -1;
    if (n >= (json_int_t)least && n <= (json_int_t)most)
        return (size_t)n;
    nf_error(NF_EFORMAT, "%s: `%s` is not a whole number from %zu to %zu", f->path, name, least, most);
    mistake(f);
    return 0;
}

double data_number(data_file *f, const char *name)
{
    const double *x = data_numbers(f, name, 1);
    return x ? *x : 0;
}

/* Writes the numbers of a value to x [n], from place `at`. Returns the place behind them; above n if there are too
   many, or something is no finite number. */
static size_t flatten(const json_t *value, size_t at, size_t n, double *x)
{
    if (json_is_number(value) && at < n && isfinite(json_number_value(value))) {
        x[at] = json_number_value(value);
        return at + 1;
    }
    if (!json_is_array(value))
        return n + 1;
    for (size_t i = 0; i < json_array_size(value) && at <= n; i++)
        at = flatten(json_array_get(value, i), at, n, x);
    return at;
}

const double *data_numbers(data_file *f, const char *name, size_t n)
{
    const json_t *value = field(f, name);
    if (!value)
        return NULL;
    double *x = f->n_arrays < DATA_ARRAYS ? calloc(n + 1, sizeof *x) : NULL;
    if (!x)
        nf_error(NF_ENOMEM, "%s: no memory for `%s`", f->path, name);
    else if (flatten(value, 0, n, x) != n)
        nf_error(NF_EFORMAT, "%s: `%s` is not %zu finite numbers", f->path, name, n);
    else
        return f->array[f->n_arrays++] = x;
    free(x);
    mistake(f);
    return NULL;
}

bool data_good(const data_file *f)
{
    return f->json != NULL;
}

void data_close(data_file *f)
{
    for (size_t i = 0; i < f->n_arrays; i++)
        free(f->array[i]);
    mistake(f);
    f->n_arrays = 0;
}
