/*
 * Descriptions as text: what nf_describe gives and nf_rebuild takes.
 *
 * A bare description has no file of numbers, whose size would bound what the description may claim. The memory for its
 * structure is bounded nonetheless: features by NFI_MAX_ROWS, units that have tables by N_UNITS, and all parameters by
 * MOST_NUMBERS (a matrix of d x d parameters has structures of length d). Everything else is bounded by the length of
 * the text.
 */
#include "base/memory.h"
#include "model/description.h"
#include <jansson.h>
#include <string.h>

#define MOST_NUMBERS (UINT64_C(1) << 36)
enum { N_UNITS = 1 << 22 };

/* The place behind the closing quotation mark of the string that begins at `at`. */
static const char *skip_string(const char *at)
{
    for (at++; *at != '"'; at++)
        if (*at == '\\')
            at++;
    return at + 1;
}

/* The closing bracket of the array that begins at `at`, if the array has plain values only; NULL if it has arrays or
   objects inside. */
static const char *end_of_plain_array(const char *at)
{
    for (at++; *at != ']'; at++) {
        if (*at == '[' || *at == '{')
            return NULL;
        if (*at == '"')
            at = skip_string(at) - 1;
    }
    return at;
}

/* Puts each array of plain values on one line, in place. Otherwise a mask of 784 entries would take 784 lines. */
static void join_lines(char *text)
{
    const char *from = text, *end = NULL; /* end of the plain array that `from` is in, or NULL */
    char *to = text;
    while (*from) {
        if (*from == '"') {
            const char *behind = skip_string(from);
            memmove(to, from, (size_t)(behind - from));
            to += behind - from;
            from = behind;
            continue;
        }
        if (*from == '[' && !end)
            end = end_of_plain_array(from);
        else if (from == end)
            end = NULL;
        if (end && *from == '\n') {
            from += strspn(from, "\n ");
            if (to[-1] == ',')
                *to++ = ' ';
            continue;
        }
        *to++ = *from++;
    }
    *to = '\0';
}

char *nf_describe(const nf_object *o)
{
    static const char who[] = "nf_describe";
    if (!o) {
        nf_error(NF_EARG, "%s: `o` is NULL", who);
        return NULL;
    }
    json_t *description = nfi_describe(o, who);
    if (!description)
        return NULL;
    char *text;
    size_t length;
    nf_status status = nfi_json_text(description, JSON_INDENT(2), 1, who, &text, &length);
    json_decref(description);
    if (status != NF_OK)
        return NULL;
    join_lines(text);
    return text;
}

nf_object *nf_rebuild(const char *json, const nf_types *types)
{
    static const char who[] = "nf_rebuild";
    if (!json) {
        nf_error(NF_EARG, "%s: `json` is NULL", who);
        return NULL;
    }
    json_error_t error;
    json_t *description = json_loads(json, JSON_REJECT_DUPLICATES, &error);
    if (!description) {
        nf_error(json_error_code(&error) == json_error_out_of_memory ? NF_ENOMEM : NF_EFORMAT,
                 "%s: line %d, column %d: %s", who, error.line, error.column, error.text);
        return NULL;
    }
    const nfi_origin from = {.who = who,
                             .types = types,
                             .n_numbers = N_UNITS,
                             .most_numbers = MOST_NUMBERS < SIZE_MAX ? (size_t)MOST_NUMBERS : SIZE_MAX};
    nf_object *o = nfi_rebuild(description, &from);
    json_decref(description);
    return o;
}

void nf_text_free(char *text)
{
    nfi_free(text);
}
