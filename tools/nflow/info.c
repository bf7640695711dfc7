/* nflow info: what a model file holds. */
#include "commands.h"
#include "density.h"
#include "output.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *json_path;
static bool description, tree;
static const cli_option options[] = {
    {"description", NULL, "print the structure in JSON, as fit --flow-file reads it", .flag = &description},
    {"tree", NULL, "print the layers, one a line", .flag = &tree},
    {"json", "FILE", "write what is printed there", .text = &json_path},
    {0},
};

static void print_tree(const nf_object *o, int level)
{
    const nf_shape *s = nf_object_shape(o);
    printf("%*s%s %s: %zu to %zu features", 2 * level, "", nf_object_kind(o), nf_object_name(o), s->dim_in, s->dim_out);
    if (s->n_ctx)
        printf(" given %zu", s->n_ctx);
    printf(", %zu parameters\n", s->n_params);
    for (size_t i = 0; i < nf_n_children(o); i++)
        print_tree(nf_child(o, i), level + 1);
}

static void print_names(const char *what, size_t n, char *const *name)
{
    printf("%s", what);
    for (size_t j = 0; j < n && j < 12; j++)
        printf("%s%s", j ? ", " : "", name[j]);
    puts(n > 12 ? ", ..." : "");
}

static void write_names(js_file *j, const char *what, size_t n, char *const *name)
{
    js_begin(j, what, '[');
    for (size_t i = 0; i < n; i++)
        js_text(j, NULL, name[i]);
    js_end(j);
}

static int info(size_t n_arguments, char **argument)
{
    (void)n_arguments;
    density d;
    density_load(&d, argument[0], 1);
    const nf_object *o = nf_model_object(d.m);
    const nf_shape *s = nf_model_shape(d.m);
    if (description) {
        char *text = cli_made(nf_describe(o));
        puts(text);
        nf_text_free(text);
    } else if (tree) {
        print_tree(o, 0);
    } else {
        const char *family = json_string_value(json_object_get(d.note, "family"));
        printf("A density of %zu features", d.dim);
        if (d.n_ctx)
            printf(" given %zu", d.n_ctx);
        printf(": %s, %zu parameters.\n", family ? family : nf_object_name(o), s->n_params);
        print_names("Columns: ", d.dim, d.name);
        if (d.n_ctx)
            print_names("Context: ", d.n_ctx, d.name + d.dim);
        if (family)
            printf("Fitted to %lld rows in %lld steps.\n",
                   (long long)json_integer_value(json_object_get(d.note, "rows")),
                   (long long)json_integer_value(json_object_get(d.note, "steps")));
    }
    js_file *j = js_open(json_path);
    js_begin(j, NULL, '{');
    js_integer(j, "features", d.dim);
    js_integer(j, "context_features", d.n_ctx);
    js_integer(j, "parameters", s->n_params);
    js_integer(j, "state", s->n_state);
    write_names(j, "columns", d.dim, d.name);
    write_names(j, "context", d.n_ctx, d.name + d.dim);
    js_end(j);
    js_close(j);
    density_free(&d);
    return 0;
}

const cli_command info_command = {
    .name = "info",
    .arguments = "MODEL",
    .least = 1,
    .most = 1,
    .about = "what a model file holds",
    .options = options,
    .run = info,
};
