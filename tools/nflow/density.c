#include "density.h"
#include "cli.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 8192 };

/* ---- the note ---- */

static char **names_of(const density *d)
{
    const json_t *x = json_object_get(d->note, "columns"), *ctx = json_object_get(d->note, "context");
    const bool there = json_array_size(x) == d->dim && json_array_size(ctx) == d->n_ctx;
    char **name = cli_allocate(d->dim + d->n_ctx, sizeof *name);
    for (size_t j = 0; j < d->dim + d->n_ctx; j++) {
        const bool is_x = j < d->dim;
        const size_t i = is_x ? j : j - d->dim;
        const char *text = there ? json_string_value(json_array_get(is_x ? x : ctx, i)) : NULL;
        name[j] = text ? cli_text("%s", text) : cli_text("%c%zu", is_x ? 'x' : 'c', i + 1);
    }
    return name;
}

static void read_places(density *d)
{
    const json_t *list = json_object_get(d->note, "places");
    const size_t n = d->dim + d->n_ctx,
                 file_columns = (size_t)json_integer_value(json_object_get(d->note, "file_columns"));
    d->place = cli_allocate(n, sizeof *d->place);
    d->file_columns = n;
    bool good = json_array_size(list) == n;
    for (size_t j = 0; j < n; j++) {
        d->place[j] = good ? (size_t)json_integer_value(json_array_get(list, j)) : j;
        good = good && d->place[j] < file_columns;
    }
    for (size_t j = 0; j < n && !good; j++)
        d->place[j] = j;
    if (good)
        d->file_columns = file_columns;
}

void density_load(density *d, const char *path, size_t threads)
{
    *d = (density){.path = path, .m = cli_made(nf_load(path, NULL)), .ws = cli_made(nf_workspace_new(threads))};
    const nf_shape *s = nf_model_shape(d->m);
    if (strcmp(nf_object_kind(nf_model_object(d->m)), "dist") != 0)
        cli_fail(1, "%s: a model of a %s, not of a distribution", path, nf_object_kind(nf_model_object(d->m)));
    d->dim = s->dim_out;
    d->n_ctx = s->n_ctx;
    const char *text = nf_model_note(d->m, DENSITY_NOTE);
    d->note = text ? json_loads(text, 0, NULL) : NULL;
    if (!json_is_object(d->note)) {
        json_decref(d->note);
        d->note = cli_made(json_object());
    }
    d->name = names_of(d);
    read_places(d);
}

void density_free(density *d)
{
    for (size_t j = 0; j < d->dim + d->n_ctx; j++)
        free(d->name[j]);
    free(d->name);
    free(d->place);
    json_decref(d->note);
    nf_workspace_free(d->ws);
    nf_model_free(d->m);
    *d = (density){0};
}

/* ---- columns of a table ---- */

size_t *density_columns(const density *d, const table *t)
{
    const size_t n = d->dim + d->n_ctx;
    size_t *place = cli_allocate(n, sizeof *place);
    if (table_places(t, n, d->name, place))
        return place;
    if (t->columns != d->file_columns && t->columns != n)
        cli_fail(1,
                 "%s: it has %zu columns, but the model wants %zu (%s%s%s ...), by these names, or in the places of a "
                 "file of %zu columns",
                 t->path, t->columns, n, d->name[0], n > 1 ? ", " : "", n > 1 ? d->name[1] : "", d->file_columns);
    for (size_t j = 0; j < n; j++)
        place[j] = t->columns == d->file_columns ? d->place[j] : j;
    return place;
}

/* ---- a context ---- */

void density_context(const density *d, const char *text, double *ctx)
{
    bool *given = cli_allocate(d->n_ctx + 1, sizeof *given);
    for (const char *word = text; word;) {
        const size_t length = strcspn(word, ",");
        const char *equals = memchr(word, '=', length);
        char *end = NULL;
        size_t j = 0;
        while (equals && j < d->n_ctx &&
               (strlen(d->name[d->dim + j]) != (size_t)(equals - word) ||
                strncmp(d->name[d->dim + j], word, (size_t)(equals - word)) != 0))
            j++;
        if (!equals || j == d->n_ctx)
            cli_fail(2, "--context '%.*s': it wants NAME=VALUE with a context of the model, such as %s", (int)length,
                     word, d->name[d->dim]);
        ctx[j] = strtod(equals + 1, &end);
        if (end != word + length || end == equals + 1 || !isfinite(ctx[j]))
            cli_fail(2, "--context '%.*s': the value is no number", (int)length, word);
        given[j] = true;
        word = word[length] ? word + length + 1 : NULL;
    }
    for (size_t j = 0; j < d->n_ctx; j++)
        if (!given[j])
            cli_fail(2, "--context has no value of %s", d->name[d->dim + j]);
    free(given);
}

/* ---- without units ---- */

/* "TEXT, " of each child but the last one. */
static char *describe_children(const nf_object *chain)
{
    char *all = cli_text("%s", "");
    for (size_t i = 0; i + 1 < nf_n_children(chain); i++) {
        char *one = cli_made(nf_describe(nf_child(chain, i))), *more = cli_text("%s%s%s", all, i ? ", " : "", one);
        nf_text_free(one);
        free(all);
        all = more;
    }
    return all;
}

nf_model *density_in_standard_units(const density *d, bool *own_it)
{
    const nf_object *whole = nf_model_object(d->m), *chain = nf_child(whole, 1);
    const size_t n = chain ? nf_n_children(chain) : 0;
    const bool has_units = strcmp(nf_object_name(whole), "pushforward") == 0 && n > 1 &&
                           strcmp(nf_object_name(chain), "chain") == 0 && json_object_get(d->note, "deviations") &&
                           strcmp(nf_object_name(nf_child(chain, n - 1)), "bounds") == 0;
    *own_it = has_units;
    if (!has_units)
        return d->m;
    char *base = cli_made(nf_describe(nf_child(whole, 0))), *layers = describe_children(chain);
    char *text =
        cli_text("{\"kind\": \"dist\", \"type\": \"pushforward\", \"children\": [%s, {\"kind\": \"flow\", \"type\": "
                 "\"chain\", \"children\": [%s]}]}",
                 base, layers);
    nf_object *o = cli_made(nf_rebuild(text, NULL));
    nf_model *m = cli_made(
        nf_model_of_object(o, &(nf_model_options){.theta = nf_model_theta(d->m), .state = nf_model_state(d->m)}));
    nf_text_free(base);
    free(layers);
    free(text);
    return m;
}

/* ---- scores ---- */

void density_score(const density *d, const rows *r, uint64_t seed, double *log_p)
{
    double *x = cli_allocate(BLOCK, d->dim * sizeof *x),
           *ctx = d->n_ctx ? cli_allocate(BLOCK, d->n_ctx * sizeof *ctx) : NULL;
    for (size_t first = 0; first < r->n; first += BLOCK) {
        const size_t n = r->n - first < BLOCK ? r->n - first : BLOCK;
        rows_must_read(r, first, n, x, ctx);
        cli_ok(nf_log_prob(d->m, d->ws, &(nf_noise){.seed = seed, .first_sample = first}, n, x, ctx, log_p + first));
        cli_progress("score", (double)(first + n), (double)r->n, "%zu rows", first + n);
    }
    free(x);
    free(ctx);
}
