/* Options as fields of a description, by their tables. A field has a value; an option is a request for one. They differ
   in 0 where it is not the default: then the request is NF_ZERO or NF_NONE. */
#include "base/memory.h"
#include "model/description.h"
#include "object/options.h"
#include <string.h>

/* ---- writing ---- */

/* Whether an option, which is no list, has its default. */
static bool is_default(const nf_option_table *table, const nf_option *o, const void *options)
{
    static const char zeros[sizeof(uint64_t)];
    const void *normal = nfi_option_at(o->offset, table->defaults);
    const size_t size = o->kind == NF_OPTION_BOOL     ? sizeof(bool)
                        : o->kind == NF_OPTION_CHOICE ? sizeof(int)
                                                      : sizeof(uint64_t);
    return memcmp(nfi_option_at(o->offset, options), normal ? normal : zeros, size) == 0;
}

static nf_status write_field(nf_writer *w, const nf_option *o, const void *options)
{
    const void *at = nfi_option_at(o->offset, options);
    const size_t *n = nfi_option_at(o->length, options);
    switch (o->kind) {
    case NF_OPTION_SIZE:
        return nf_write_integer(w, o->name, *(const size_t *)at);
    case NF_OPTION_INTEGER:
        return nf_write_integer(w, o->name, *(const uint64_t *)at);
    case NF_OPTION_REAL:
        return nf_write_number(w, o->name, *(const double *)at);
    case NF_OPTION_BOOL:
        return nf_write_bool(w, o->name, *(const bool *)at);
    case NF_OPTION_CHOICE:
        return nf_write_choice(w, o->name, o->choices->n, o->choices->names, *(const unsigned *)at);
    case NF_OPTION_SIZES:
        return nf_write_integers(w, o->name, *n, *(const size_t *const *)at);
    case NF_OPTION_REALS:
        return nf_write_numbers(w, o->name, *n, *(const double *const *)at);
    }
    return nf_error(NF_EARG, "nf_options_write: the option `%s` is of no kind", o->name);
}

nf_status nf_options_write(nf_writer *w, const nf_option_table *table, const void *settled)
{
    nf_status status = nfi_option_table_check("nf_options_write", table);
    if (status == NF_OK && (!w || !settled))
        status = nf_error(NF_EARG, "nf_options_write: `%s` is NULL", w ? "settled" : "w");
    for (size_t i = 0; status == NF_OK && i < table->n; i++)
        if (!(table->option[i].flags & NF_OPTION_ADDED && is_default(table, &table->option[i], settled)))
            status = write_field(w, &table->option[i], settled);
    return status;
}

/* ---- reading ---- */

static nf_status read_list(nf_reader *r, const nf_option_table *table, const nf_option *o, const char *name,
                           void *options)
{
    const size_t n = nf_read_length(r, name);
    void *list = nf_arena_alloc(&r->memory, (n + 1) * sizeof(double));
    if (!list)
        return NF_ENOMEM;
    if (n > 0)
        memcpy(nfi_option_at(o->offset, options), &list, sizeof list);
    *(size_t *)nfi_option_at(o->length, options) = n || !nfi_option_has_default(table, o) ? n : NF_NONE;
    return o->kind == NF_OPTION_SIZES ? nf_read_integers(r, name, n, list) : nf_read_numbers(r, name, n, list);
}

static nf_status read_field(nf_reader *r, const nf_option_table *table, const nf_option *o, const char *name,
                            void *options)
{
    void *at = nfi_option_at(o->offset, options);
    const bool has_default = nfi_option_has_default(table, o);
    nf_status status;
    uint64_t whole;
    size_t choice;
    switch (o->kind) {
    case NF_OPTION_SIZE:
    case NF_OPTION_INTEGER:
        status = nf_read_integer(r, name, &whole);
        if (status == NF_OK && !(whole == 0 && o->flags & NF_OPTION_DEPENDS))
            status = nfi_option_check(table, o, (double)whole, NF_NONE);
        if (status == NF_OK && o->kind == NF_OPTION_SIZE && whole >= SIZE_MAX)
            status = nf_error(NF_EARG, "%s: `%s` is too large", table->function, o->name);
        if (status == NF_OK && o->kind == NF_OPTION_SIZE)
            *(size_t *)at = whole == 0 && has_default ? NF_NONE : (size_t)whole;
        else if (status == NF_OK)
            *(uint64_t *)at = whole;
        return status;
    case NF_OPTION_REAL: {
        double *v = at;
        status = nf_read_number(r, name, v);
        if (status == NF_OK && !(*v == 0 && o->flags & NF_OPTION_DEPENDS))
            status = nfi_option_check(table, o, *v, NF_NONE);
        if (status == NF_OK && *v == 0 && has_default)
            *v = NF_ZERO;
        return status;
    }
    case NF_OPTION_BOOL:
        return nf_read_bool(r, name, at);
    case NF_OPTION_CHOICE:
        status = nf_read_choice(r, name, o->choices->n, o->choices->names, &choice);
        if (status == NF_OK)
            *(unsigned *)at = (unsigned)choice;
        return status;
    case NF_OPTION_SIZES:
    case NF_OPTION_REALS:
        return read_list(r, table, o, name, options);
    }
    return nf_error(NF_EARG, "nf_options_read: the option `%s` is of no kind", o->name);
}

const void *nf_options_read(nf_reader *r, const nf_option_table *table)
{
    void *options = NULL;
    if (!r)
        nf_error(NF_EARG, "nf_options_read: `r` is NULL");
    else if (nfi_option_table_check("nf_options_read", table) == NF_OK)
        options = nf_arena_alloc(&r->memory, table->size);
    if (!options)
        return NULL;
    memset(options, 0, table->size);
    for (size_t i = 0; i < table->n; i++) {
        const nf_option *o = &table->option[i];
        const bool renamed = o->former && !nf_read_has(r, o->name);
        const char *name = renamed ? o->former : o->name;
        if ((o->flags & NF_OPTION_REQUIRED || nf_read_has(r, name)) && read_field(r, table, o, name, options) != NF_OK)
            return NULL;
    }
    return options;
}
