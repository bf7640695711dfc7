/* Targets of named, constrained parameters: the density over their values, pulled back through the constraints side by
   side (pulled_back.c), and the values' names, as Stan's CSV files have them: "tau", "theta.1", "Sigma.2.1" (the first
   index runs fastest). */
#include "base/memory.h"
#include "object/parts.h"
#include "vi/pulled_back.h"
#include "vi/target.h"
#include <nflow/combine.h>
#include <nflow/model.h>
#include <stdio.h>
#include <string.h>

enum { INDEX_SIZE = 21 }; /* characters of "." and a number of 64 bits */

static void free_target(void *t)
{
    nf_target_free(t);
}

static void free_model(void *m)
{
    nf_model_free(m);
}

static size_t n_values(const nf_parameter *p)
{
    return nf_flow_shape(p->constraint)->dim_out;
}

/* Parameter i has a name, a constraint, and dims that fit it. */
static nf_status check_parameter(const char *who, size_t i, const nf_parameter *p)
{
    char what[128];
    if (!p->name || !p->name[0])
        return nf_error(NF_EARG, "%s: the name of parameter %zu is %s", who, i + 1, p->name ? "empty" : "NULL");
    if (!p->constraint) {
        snprintf(what, sizeof what, "the constraint of `%s`", p->name);
        return nfi_missing(who, what);
    }
    if (p->n_dims && !p->dims)
        return nf_error(NF_EARG, "%s: `%s` has %zu dims, but `dims` is NULL", who, p->name, p->n_dims);
    size_t product = 1;
    bool fits = true;
    for (size_t k = 0; k < p->n_dims; k++)
        fits = nfi_mul(product, p->dims[k], &product) && fits;
    if (p->n_dims && (!fits || product != n_values(p)))
        return nf_error(NF_EDIM, "%s: `%s` has %zu values by its dims, but its constraint gives %zu", who, p->name,
                        fits ? product : SIZE_MAX, n_values(p));
    return NF_OK;
}

/* The name of value k of a parameter. */
static size_t write_name(const nf_parameter *p, size_t k, char *text, size_t size)
{
    const size_t vector = n_values(p), n_dims = p->n_dims ? p->n_dims : vector > 1,
                 *dims = p->n_dims ? p->dims : &vector;
    int used = snprintf(text, size, "%s", p->name);
    for (size_t i = 0; i < n_dims; k /= dims[i++])
        used += snprintf(text + used, size - (size_t)used, ".%zu", k % dims[i] + 1);
    return (size_t)used + 1;
}

/* Gives the coordinates of `inner` the names of all parameters' values, `total` of them. */
static nf_status name_values(nf_target *inner, const char *who, const nf_parameter *parameters, size_t n, size_t total)
{
    size_t bytes = 0, longest = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t length = strlen(parameters[i].name) + (parameters[i].n_dims + 1) * INDEX_SIZE + 1;
        longest = length > longest ? length : longest;
    }
    char **names = NULL;
    if (nfi_add(longest, sizeof *names, &bytes) && nfi_mul(total, bytes, &bytes))
        names = nfi_calloc(bytes, 1);
    else
        nf_error(NF_ENOMEM, "%s: the names of %zu values do not fit in memory", who, total);
    if (!names)
        return NF_ENOMEM;
    char *text = (char *)(names + total);
    size_t at = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n_values(&parameters[i]); k++) {
            names[at++] = text;
            text += write_name(&parameters[i], k, text, longest);
        }
    const nf_status status = nfi_target_name_point(inner, who, (const char *const *)names);
    nfi_free(names);
    return status;
}

/* Checks everything and names the values. */
static nf_status begin(nf_target *inner, const char *who, const nf_parameter *parameters, size_t n)
{
    size_t total = 0;
    bool fits = true;
    if (!inner)
        return nfi_missing(who, "`inner`");
    for (size_t i = 0; i < n; i++) {
        const nf_status status = check_parameter(who, i, &parameters[i]);
        if (status != NF_OK)
            return status;
        fits = nfi_add(total, n_values(&parameters[i]), &total) && fits;
    }
    if (!fits || total != inner->d)
        return nf_error(NF_EDIM, "%s: the parameters have %zu values, but `inner` has %zu dimensions", who, total,
                        inner->d);
    return name_values(inner, who, parameters, n, total);
}

nf_target *nf_target_constrained(nf_target *inner, const nf_parameter *parameters, size_t n)
{
    static const char who[] = "nf_target_constrained";
    nf_flow **constraint = NULL;
    if (n == 0 || !parameters)
        nf_error(NF_EARG, "%s: %s", who, n ? "`parameters` is NULL" : "n is 0, but a parameter is needed");
    else
        constraint = nfi_calloc(n, sizeof *constraint);
    if (!constraint) {
        for (size_t i = 0; i < n && parameters; i++)
            nf_flow_free(parameters[i].constraint);
        nf_target_free(inner);
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        constraint[i] = parameters[i].constraint;
    nf_target *t = NULL;
    if (begin(inner, who, parameters, n) == NF_OK) {
        nf_model *m = nf_model_of_flow(nf_blocks(constraint, n), NULL);
        t = nf_target_own(nfi_pulled_back(who, inner, m), m, free_model);
        t = nf_target_own(t, inner, free_target);
    } else {
        nfi_parts_release(n, (nf_object *const *)constraint);
        nf_target_free(inner);
    }
    nfi_free(constraint);
    return t;
}
