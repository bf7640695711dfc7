/*
 * Fields that are choices: enumerations by name, and true or false. Before model files had names, they held the numbers
 * of the enumerations. What a number meant depended on the version, so numbers are refused.
 */
#include "model/description.h"
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* ---- writing ---- */

nf_status nf_write_bool(nf_writer *w, const char *name, bool value)
{
    return nfi_set_field(w, "nf_write_bool", name, json_boolean(value));
}

/* NF_EARG if value is not one of the choices. */
static nf_status check_choice(const char *function, const char *name, size_t n, const char *const *names, size_t value)
{
    if (!names)
        return nf_error(NF_EARG, "%s: names is NULL", function);
    if (value >= n || !names[value])
        return nf_error(NF_EARG, "%s: the field '%s' is choice %zu, but there are %zu names", function,
                        name ? name : "", value, n);
    return NF_OK;
}

nf_status nf_write_choice(nf_writer *w, const char *name, size_t n, const char *const *names, size_t value)
{
    static const char function[] = "nf_write_choice";
    nf_status status = check_choice(function, name, n, names, value);
    return status == NF_OK ? nfi_set_field(w, function, name, json_string(names[value])) : status;
}

nf_status nf_write_choices(nf_writer *w, const char *name, size_t n, const char *const *names, size_t n_values,
                           const size_t *values)
{
    static const char function[] = "nf_write_choices";
    if (n_values && !values)
        return nf_error(NF_EARG, "%s: values is NULL, but n_values is %zu", function, n_values);
    json_t *array = json_array();
    for (size_t i = 0; i < n_values; i++) {
        nf_status status = check_choice(function, name, n, names, values[i]);
        if (status == NF_OK && json_array_append_new(array, json_string(names[values[i]])) != 0)
            status = nf_error(NF_ENOMEM, "%s: no memory for an array of %zu", function, n_values);
        if (status != NF_OK) {
            json_decref(array);
            return status;
        }
    }
    return nfi_set_field(w, function, name, array);
}

/* ---- reading ---- */

static nf_status before_names(const char *name, const char *kind)
{
    return nf_error(NF_EFORMAT,
                    "the field '%s' has a number in place of %s: it was saved by a version before names; make it anew "
                    "and save it again",
                    name, kind);
}

nf_status nf_read_bool(nf_reader *r, const char *name, bool *value)
{
    const json_t *json = NULL;
    nf_status status = nfi_find_field(r, "nf_read_bool", name, value, &json);
    if (status != NF_OK)
        return status;
    if (json_is_integer(json))
        return before_names(name, "true or false");
    if (!json_is_boolean(json))
        return nf_error(NF_EFORMAT, "the field '%s' is neither true nor false", name);
    *value = json_is_true(json);
    return NF_OK;
}

/* Lists the names, "relu, tanh, elu", as far as there is room. */
static void list_names(size_t n, const char *const *names, size_t room, char *text)
{
    size_t length = 0;
    text[0] = '\0';
    for (size_t i = 0; i < n && length < room; i++)
        if (names[i])
            length += (size_t)snprintf(text + length, room - length, "%s%s", length ? ", " : "", names[i]);
}

static nf_status choice_of_json(const json_t *json, const char *name, size_t n, const char *const *names, size_t *value)
{
    const char *found = json_string_value(json);
    char known[256];
    if (json_is_number(json))
        return before_names(name, "a name");
    for (size_t i = 0; found && i < n; i++)
        if (names[i] && strcmp(names[i], found) == 0) {
            *value = i;
            return NF_OK;
        }
    list_names(n, names, sizeof known, known);
    if (!found)
        return nf_error(NF_EFORMAT, "the field '%s' is not a name; known are: %s", name, known);
    return nf_error(NF_EFORMAT, "the field '%s' is '%.64s'; known are: %s", name, found, known);
}

nf_status nf_read_choice(nf_reader *r, const char *name, size_t n, const char *const *names, size_t *value)
{
    const json_t *json = NULL;
    nf_status status = nfi_find_field(r, "nf_read_choice", name, value, &json);
    if (status != NF_OK)
        return status;
    if (!names)
        return nf_error(NF_EARG, "nf_read_choice: names is NULL");
    /* some fields of numbers have become one choice, and other fields */
    const json_t *first = json_array_get(json, 0);
    return choice_of_json(json_is_number(first) ? first : json, name, n, names, value);
}

nf_status nf_read_choices(nf_reader *r, const char *name, size_t n, const char *const *names, size_t n_values,
                          size_t *values)
{
    const json_t *json = nfi_find_array(r, "nf_read_choices", name, n_values, values, "names");
    if (!json)
        return nf_error_status();
    if (!names)
        return nf_error(NF_EARG, "nf_read_choices: names is NULL");
    for (size_t i = 0; i < n_values; i++) {
        nf_status status = choice_of_json(json_array_get(json, i), name, n, names, &values[i]);
        if (status != NF_OK)
            return status;
    }
    return NF_OK;
}
