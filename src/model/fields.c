/*
 * Fields of a description. Integers are unsigned, of 64 bits. An integer that does not fit JSON's signed integers is
 * written as a decimal string. So are the numbers that JSON does not have: "nan", "inf", "-inf". Choices are in
 * choices.c.
 */
#include "model/description.h"
#include "base/memory.h"
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- writing ---- */

nf_status nfi_set_field(nf_writer *w, const char *function, const char *name, json_t *value)
{
    nf_status status = NF_OK;
    if (!w || !name)
        status = nf_error(NF_EARG, "%s: %s is NULL", function, w ? "name" : "w");
    else if (json_object_get(w->fields, name))
        status = nf_error(NF_EARG, "%s: %s writes the field '%s' twice", function, nf_object_name(w->o), name);
    else if (!value || json_object_set(w->fields, name, value) != 0)
        status = nf_error(NF_ENOMEM, "%s: no memory for the field '%s', or its name is not UTF-8", function, name);
    json_decref(value);
    return status;
}

static json_t *json_of_integer(uint64_t value)
{
    if (value <= INT64_MAX)
        return json_integer((json_int_t)value);
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, value);
    return json_string(text);
}

nf_status nf_write_integer(nf_writer *w, const char *name, uint64_t value)
{
    return nfi_set_field(w, "nf_write_integer", name, json_of_integer(value));
}

static json_t *json_of_number(double value)
{
    return isnan(value)   ? json_string("nan")
           : isinf(value) ? json_string(value > 0 ? "inf" : "-inf")
                          : json_real(value);
}

nf_status nf_write_number(nf_writer *w, const char *name, double value)
{
    return nfi_set_field(w, "nf_write_number", name, json_of_number(value));
}

/* Writes an array of n values, each of them by `json_of`. */
#define WRITE_ARRAY(function, type, json_of)                                                \
    nf_status function(nf_writer *w, const char *name, size_t n, const type *values)        \
    {                                                                                       \
        if (n && !values)                                                                   \
            return nf_error(NF_EARG, #function ": values is NULL, but n is %zu", n);        \
        json_t *array = json_array();                                                       \
        for (size_t i = 0; i < n; i++)                                                      \
            if (json_array_append_new(array, json_of(values[i])) != 0) {                    \
                json_decref(array);                                                         \
                return nf_error(NF_ENOMEM, #function ": no memory for an array of %zu", n); \
            }                                                                               \
        return nfi_set_field(w, #function, name, array);                                    \
    }
WRITE_ARRAY(nf_write_integers, size_t, json_of_integer)
WRITE_ARRAY(nf_write_numbers, double, json_of_number)

/* ---- reading ---- */

nf_status nfi_find_field(nf_reader *r, const char *function, const char *name, const void *out, const json_t **value)
{
    if (!r || !name || !out)
        return nf_error(NF_EARG, "%s: %s is NULL", function, !r ? "r" : !name ? "name" : "the place for the value");
    *value = json_object_get(r->fields, name);
    json_object_del(r->unread, name);
    if (!*value)
        return nf_error(NF_EFORMAT, "the field '%s' is missing", name);
    return NF_OK;
}

static bool integer_of_json(const json_t *json, uint64_t *value)
{
    if (json_is_integer(json) && json_integer_value(json) >= 0) {
        *value = (uint64_t)json_integer_value(json);
        return true;
    }
    const char *text = json_string_value(json);
    if (!text || !*text || strlen(text) > 20 || strspn(text, "0123456789") != strlen(text))
        return false;
    *value = 0;
    for (; *text; text++)
        if (__builtin_mul_overflow(*value, (uint64_t)10, value) ||
            __builtin_add_overflow(*value, (uint64_t)(*text - '0'), value))
            return false;
    return true;
}

nf_status nf_read_integer(nf_reader *r, const char *name, uint64_t *value)
{
    const json_t *json = NULL;
    nf_status status = nfi_find_field(r, "nf_read_integer", name, value, &json);
    if (status == NF_OK && !integer_of_json(json, value))
        status = nf_error(NF_EFORMAT, "the field '%s' is not a non-negative integer", name);
    return status;
}

static bool number_of_json(const json_t *json, double *value)
{
    const char *text = json_string_value(json);
    if (json_is_number(json))
        *value = json_number_value(json);
    else if (text && strcmp(text, "nan") == 0)
        *value = (double)NAN;
    else if (text && strcmp(text, "inf") == 0)
        *value = HUGE_VAL;
    else if (text && strcmp(text, "-inf") == 0)
        *value = -HUGE_VAL;
    else
        return false;
    return true;
}

nf_status nf_read_number(nf_reader *r, const char *name, double *value)
{
    const json_t *json = NULL;
    nf_status status = nfi_find_field(r, "nf_read_number", name, value, &json);
    if (status == NF_OK && !number_of_json(json, value))
        status = nf_error(NF_EFORMAT, "the field '%s' is not a number", name);
    return status;
}

bool nf_read_has(nf_reader *r, const char *name)
{
    if (!r || !name || !json_object_get(r->fields, name))
        return false;
    json_object_del(r->unread, name);
    return true;
}

size_t nf_read_length(nf_reader *r, const char *name)
{
    return nf_read_has(r, name) ? json_array_size(json_object_get(r->fields, name)) : 0;
}

const json_t *nfi_find_array(nf_reader *r, const char *function, const char *name, size_t n, const void *values,
                             const char *of)
{
    const json_t *json = NULL;
    if (nfi_find_field(r, function, name, values, &json) != NF_OK)
        return NULL;
    if (json_is_array(json) && json_array_size(json) == n)
        return json;
    nf_error(NF_EFORMAT, "the field '%s' is not an array of %zu %s", name, n, of);
    return NULL;
}

nf_status nf_read_integers(nf_reader *r, const char *name, size_t n, size_t *values)
{
    const json_t *json = nfi_find_array(r, "nf_read_integers", name, n, values, "integers");
    if (!json)
        return nf_error_status();
    for (size_t i = 0; i < n; i++) {
        uint64_t value;
        if (!integer_of_json(json_array_get(json, i), &value) || value > SIZE_MAX)
            return nf_error(NF_EFORMAT, "item %zu of the field '%s' is not a non-negative integer", i, name);
        values[i] = (size_t)value;
    }
    return NF_OK;
}

nf_status nf_read_numbers(nf_reader *r, const char *name, size_t n, double *values)
{
    const json_t *json = nfi_find_array(r, "nf_read_numbers", name, n, values, "numbers");
    if (!json)
        return nf_error_status();
    for (size_t i = 0; i < n; i++)
        if (!number_of_json(json_array_get(json, i), &values[i]))
            return nf_error(NF_EFORMAT, "item %zu of the field '%s' is not a number", i, name);
    return NF_OK;
}

/* Returns a dimension. If it was left out, this is noted for a later message. */
static size_t read_dim(nf_reader *r, const nfi_rows_read *rows, const char *name)
{
    if (rows->n == 0 && !rows->given)
        r->left_out = name;
    return rows->n;
}

size_t nf_read_dim_in(nf_reader *r)
{
    return r ? read_dim(r, &r->dim_in, "dim_in") : 0;
}

size_t nf_read_dim_out(nf_reader *r)
{
    return r ? read_dim(r, &r->dim_out, "dim_out") : 0;
}

size_t nf_read_n_ctx(nf_reader *r)
{
    return r ? r->n_ctx.n : 0;
}

size_t nf_read_n_numbers(nf_reader *r)
{
    return r ? r->n_numbers : 0;
}

bool nf_read_is_file(nf_reader *r)
{
    return r && r->is_file;
}

size_t nf_read_n_children(nf_reader *r)
{
    return r ? r->n_children : 0;
}

nf_object *nf_read_child(nf_reader *r, size_t i)
{
    if (r && i < r->n_children)
        return nf_object_ref(r->children[i]);
    nf_error(r ? NF_EFORMAT : NF_EARG, r ? "there is no child %zu" : "nf_read_child: r is NULL", i);
    return NULL;
}
