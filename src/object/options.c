/* Options: which value a request stands for, and whether it is in its range. With d the default and [a, b] the range:

       count    0 -> d;   NF_NONE -> 0
       real     0 -> d;   any negative number -> 0   if 0 is in [a, b], no negative one is, and d is not 0
       list     no items -> d's items;   NF_NONE items -> none, without an array; no items of an array: an error    */
#include "object/options.h"
#include "object/table.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static bool is_list(const nf_option *o)
{
    return o->kind == NF_OPTION_SIZES || o->kind == NF_OPTION_REALS;
}

bool nfi_option_has_default(const nf_option_table *table, const nf_option *o)
{
    static const char zeros[sizeof(uint64_t)]; /* those of a double, too */
    const void *at = nfi_option_at(is_list(o) ? o->length : o->offset, table->defaults);
    const bool none = !at || o->kind == NF_OPTION_BOOL || o->kind == NF_OPTION_CHOICE;
    return !none && memcmp(at, zeros, is_list(o) || o->kind == NF_OPTION_SIZE ? sizeof(size_t) : sizeof zeros) != 0;
}

static bool in_range(const nf_option *o, double value)
{
    const bool above = o->flags & NF_OPTION_ABOVE ? value > o->least : value >= o->least; /* NaN fails */
    const bool below = o->flags & NF_OPTION_BELOW ? value < o->most : value <= o->most;
    return above && (below || (o->most == 0 && isfinite(value)));
}

/* Writes the range: "[0, 1)", "above 0", "at least 2". */
static void name_range(const nf_option *o, char *text, size_t room)
{
    const bool above = o->flags & NF_OPTION_ABOVE, below = o->flags & NF_OPTION_BELOW;
    if (o->most == 0)
        snprintf(text, room, "%s %g", above ? "above" : "at least", o->least);
    else
        snprintf(text, room, "in %c%g, %g%c", above ? '(' : '[', o->least, o->most, below ? ')' : ']');
}

nf_status nfi_option_check(const nf_option_table *table, const nf_option *o, double value, size_t item)
{
    char range[80], name[80];
    if (in_range(o, value))
        return NF_OK;
    name_range(o, range, sizeof range);
    if (item == NF_NONE)
        snprintf(name, sizeof name, "`%s`", o->name);
    else
        snprintf(name, sizeof name, "%s[%zu]", o->name, item);
    if (o->most == 0 && !isfinite(value))
        return nf_error(NF_EARG, "%s: %s is not finite: it is %g", table->function, name, value);
    const bool whole = o->kind == NF_OPTION_SIZE || o->kind == NF_OPTION_INTEGER || o->kind == NF_OPTION_SIZES;
    return nf_error(NF_EARG, whole ? "%s: %s is %.0f, but must be %s" : "%s: %s is %g, but must be %s", table->function,
                    name, value, range);
}

nf_status nfi_option_table_check(const char *who, const nf_option_table *table)
{
    return table ? nfi_check_abi(who, "table", table->abi, sizeof *table, sizeof *table)
                 : nf_error(NF_EARG, "%s: `table` is NULL", who);
}

static nf_status settle_choice(const nf_option_table *table, const nf_option *o, int *value)
{
    const int *normal = nfi_option_at(o->offset, table->defaults);
    if (*value == 0 && normal)
        *value = *normal;
    if (*value == 0 || (*value > 0 && (size_t)*value < o->choices->n && o->choices->names[*value]))
        return NF_OK;
    return nf_error(NF_EARG, "%s: `%s` is %d: unknown %s %d", table->function, o->name, *value, o->choices->what,
                    *value);
}

static nf_status settle_list(const nf_option_table *table, const nf_option *o, void *options)
{
    void *at = nfi_option_at(o->offset, options);
    size_t *n = nfi_option_at(o->length, options);
    void *given;
    memcpy(&given, at, sizeof given);
    if (*n == 0 && given)
        return nf_error(NF_EARG, "%s: `%s` is given, but n_%s is 0: it is the number of items, or NF_NONE for none",
                        table->function, o->name, o->name);
    if (*n == 0 && nfi_option_has_default(table, o)) {
        memcpy(at, nfi_option_at(o->offset, table->defaults), sizeof(void *));
        *n = *(const size_t *)nfi_option_at(o->length, table->defaults);
    }
    if (*n == NF_NONE) {
        *n = 0;
        memset(at, 0, sizeof given);
    }
    const size_t *sizes = o->kind == NF_OPTION_SIZES ? *(const size_t **)at : NULL;
    const double *reals = o->kind == NF_OPTION_REALS ? *(const double **)at : NULL;
    if (*n && !sizes && !reals)
        return nf_error(NF_EARG, "%s: `%s` is NULL, but n_%s is %zu", table->function, o->name, o->name, *n);
    nf_status status = NF_OK;
    for (size_t i = 0; i < *n && status == NF_OK; i++)
        status = nfi_option_check(table, o, sizes ? (double)sizes[i] : reals[i], i);
    return status;
}

static nf_status settle(const nf_option_table *table, const nf_option *o, void *options)
{
    void *at = nfi_option_at(o->offset, options);
    const bool has_default = nfi_option_has_default(table, o);
    const void *normal = has_default ? nfi_option_at(o->offset, table->defaults) : NULL;
    switch (o->kind) {
    case NF_OPTION_SIZE: {
        size_t *v = at;
        if (*v == 0 && o->flags & NF_OPTION_DEPENDS)
            return NF_OK;
        *v = *v == NF_NONE ? 0 : *v == 0 && normal ? *(const size_t *)normal : *v;
        return nfi_option_check(table, o, (double)*v, NF_NONE);
    }
    case NF_OPTION_INTEGER: {
        uint64_t *v = at;
        if (normal && *v == 0)
            *v = *(const uint64_t *)normal;
        return nfi_option_check(table, o, (double)*v, NF_NONE);
    }
    case NF_OPTION_REAL: {
        double *v = at;
        if (*v == 0 && o->flags & NF_OPTION_DEPENDS)
            return NF_OK;
        if (normal && *v == 0)
            *v = *(const double *)normal;
        else if (normal && *v < 0 && isfinite(*v) && in_range(o, 0) && o->least >= 0)
            *v = 0;
        return nfi_option_check(table, o, *v, NF_NONE);
    }
    case NF_OPTION_CHOICE:
        return settle_choice(table, o, at);
    case NF_OPTION_SIZES:
    case NF_OPTION_REALS:
        return settle_list(table, o, options);
    case NF_OPTION_BOOL:
        return NF_OK;
    }
    return nf_error(NF_EARG, "%s: the option `%s` is of no kind", table->function, o->name);
}

nf_status nf_options_settle(const nf_option_table *table, const void *given, void *settled)
{
    nf_status status = nfi_option_table_check("nf_options_settle", table);
    if (status != NF_OK || !settled)
        return status != NF_OK ? status : nf_error(NF_EARG, "nf_options_settle: `settled` is NULL");
    if (given)
        memmove(settled, given, table->size);
    else
        memset(settled, 0, table->size);
    for (size_t i = 0; i < table->n && status == NF_OK; i++)
        status = settle(table, &table->option[i], settled);
    return status;
}
