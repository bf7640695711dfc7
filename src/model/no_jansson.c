/* Builds without Jansson: model files are refused, and nothing else changes. */
#include "object/tree.h"
#include <nflow/model.h>

static nf_status refuse(const char *function)
{
    return nf_error(NF_EUNSUPPORTED, "%s: this build has no Jansson, so it has no descriptions and model files",
                    function);
}

nf_status nf_save(const nf_model *m, const char *path)
{
    (void)m, (void)path;
    return refuse("nf_save");
}

nf_model *nf_load(const char *path, const nf_types *types)
{
    (void)path, (void)types;
    refuse("nf_load");
    return NULL;
}

char *nf_describe(const nf_object *o)
{
    (void)o;
    refuse("nf_describe");
    return NULL;
}

nf_object *nf_rebuild(const char *json, const nf_types *types)
{
    (void)json, (void)types;
    refuse("nf_rebuild");
    return NULL;
}

void nf_text_free(char *text)
{
    (void)text; /* there are no texts */
}

/* ---- hooks may call these, but nobody calls the hooks ---- */

nf_status nf_write_integer(nf_writer *w, const char *name, uint64_t value)
{
    (void)w, (void)name, (void)value;
    return refuse("nf_write_integer");
}

nf_status nf_write_bool(nf_writer *w, const char *name, bool value)
{
    (void)w, (void)name, (void)value;
    return refuse("nf_write_bool");
}

nf_status nf_write_choice(nf_writer *w, const char *name, size_t n, const char *const *names, size_t value)
{
    (void)w, (void)name, (void)n, (void)names, (void)value;
    return refuse("nf_write_choice");
}

nf_status nf_write_choices(nf_writer *w, const char *name, size_t n, const char *const *names, size_t n_values,
                           const size_t *values)
{
    (void)w, (void)name, (void)n, (void)names, (void)n_values, (void)values;
    return refuse("nf_write_choices");
}

nf_status nf_write_number(nf_writer *w, const char *name, double value)
{
    (void)w, (void)name, (void)value;
    return refuse("nf_write_number");
}

nf_status nf_write_integers(nf_writer *w, const char *name, size_t n, const size_t *values)
{
    (void)w, (void)name, (void)n, (void)values;
    return refuse("nf_write_integers");
}

nf_status nf_write_numbers(nf_writer *w, const char *name, size_t n, const double *values)
{
    (void)w, (void)name, (void)n, (void)values;
    return refuse("nf_write_numbers");
}

nf_status nf_read_integer(nf_reader *r, const char *name, uint64_t *value)
{
    (void)r, (void)name, (void)value;
    return refuse("nf_read_integer");
}

nf_status nf_read_bool(nf_reader *r, const char *name, bool *value)
{
    (void)r, (void)name, (void)value;
    return refuse("nf_read_bool");
}

nf_status nf_read_choice(nf_reader *r, const char *name, size_t n, const char *const *names, size_t *value)
{
    (void)r, (void)name, (void)n, (void)names, (void)value;
    return refuse("nf_read_choice");
}

nf_status nf_read_choices(nf_reader *r, const char *name, size_t n, const char *const *names, size_t n_values,
                          size_t *values)
{
    (void)r, (void)name, (void)n, (void)names, (void)n_values, (void)values;
    return refuse("nf_read_choices");
}

nf_status nf_read_number(nf_reader *r, const char *name, double *value)
{
    (void)r, (void)name, (void)value;
    return refuse("nf_read_number");
}

nf_status nf_read_integers(nf_reader *r, const char *name, size_t n, size_t *values)
{
    (void)r, (void)name, (void)n, (void)values;
    return refuse("nf_read_integers");
}

nf_status nf_read_numbers(nf_reader *r, const char *name, size_t n, double *values)
{
    (void)r, (void)name, (void)n, (void)values;
    return refuse("nf_read_numbers");
}

nf_status nf_options_write(nf_writer *w, const nf_option_table *table, const void *settled)
{
    (void)w, (void)table, (void)settled;
    return refuse("nf_options_write");
}

const void *nf_options_read(nf_reader *r, const nf_option_table *table)
{
    (void)r, (void)table;
    refuse("nf_options_read");
    return NULL;
}

nf_object *nf_read_child(nf_reader *r, size_t i)
{
    (void)r, (void)i;
    refuse("nf_read_child");
    return NULL;
}

#define NO_SIZE(function)         \
    size_t function(nf_reader *r) \
    {                             \
        (void)r;                  \
        return 0;                 \
    }
NO_SIZE(nf_read_dim_in)
NO_SIZE(nf_read_dim_out)
NO_SIZE(nf_read_n_ctx)
NO_SIZE(nf_read_n_numbers)
NO_SIZE(nf_read_n_children)

bool nf_read_is_file(nf_reader *r)
{
    (void)r;
    return false;
}

bool nf_read_has(nf_reader *r, const char *name)
{
    (void)r, (void)name;
    return false;
}

size_t nf_read_length(nf_reader *r, const char *name)
{
    (void)r, (void)name;
    return 0;
}
