/*
 * Architectures as JSON: a walk down the tree that writes, and one up that rebuilds.
 *
 * Rebuilding trusts nothing. An object is structure only, and what it claims is checked before numbers are allocated
 * for it: rows are bounded, and a subtree that needs parameters of its own cannot need more than the file holds.
 */
#include "io/description.h"
#include "core/memory.h"
#include "io/types.h"
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static json_t *describe(const nf_object *o, size_t depth);

static json_t *describe_children(const nf_object *o, size_t depth)
{
    json_t *array = json_array();
    if (!array)
        nf_error(NF_ENOMEM, "nf_save: no memory for the architecture");
    for (size_t i = 0; array && i < o->n_children; i++) {
        json_t *child = describe(o->children[i], depth + 1);
        if (child && json_array_append(array, child) == 0) {
            json_decref(child);
            continue;
        }
        if (child)
            nf_error(NF_ENOMEM, "nf_save: no memory for the architecture");
        json_decref(child);
        json_decref(array);
        return NULL;
    }
    return array;
}

static json_t *describe_fields(const nf_object *o)
{
    nf_writer w = {.o = o, .fields = json_object()};
    if (!w.fields)
        nf_error(NF_ENOMEM, "nf_save: no memory for the architecture");
    else if (o->part->describe && o->part->describe(o, &w) != NF_OK) {
        json_decref(w.fields);
        return NULL;
    }
    return w.fields;
}

static json_t *describe(const nf_object *o, size_t depth)
{
    const nf_shape *s = &o->total;
    if (depth >= NFI_MAX_DEPTH || s->dim_in > NFI_MAX_ROWS || s->dim_out > NFI_MAX_ROWS || s->n_ctx > NFI_MAX_ROWS) {
        nf_error(NF_EUNSUPPORTED,
                 "nf_save: %s: model files hold at most %d objects inside one another and %d rows, this is "
                 "object %zu with %zu -> %zu rows and %zu rows of context",
                 o->part->name, NFI_MAX_DEPTH, NFI_MAX_ROWS, depth + 1, s->dim_in, s->dim_out, s->n_ctx);
        return NULL;
    }
    json_t *fields = describe_fields(o);
    json_t *children = fields ? describe_children(o, depth) : NULL;
    if (!children) {
        json_decref(fields);
        return NULL;
    }
    json_t *node = json_object();
    int bad = json_object_set_new(node, "kind", json_string(nfi_kind_name(o->kind)));
    bad |= json_object_set_new(node, "type", json_string(o->part->name));
    bad |= json_object_set_new(node, "dim_in", json_integer((json_int_t)s->dim_in));
    bad |= json_object_set_new(node, "dim_out", json_integer((json_int_t)s->dim_out));
    bad |= json_object_set_new(node, "n_ctx", json_integer((json_int_t)s->n_ctx));
    bad |= json_object_set_new(node, "fields", fields);
    bad |= json_object_set_new(node, "children", children);
    if (bad) {
        nf_error(NF_ENOMEM, "nf_save: no memory for the architecture, or a type's name is not UTF-8");
        json_decref(node);
        return NULL;
    }
    return node;
}

struct json_t *nfi_describe(const nf_object *o)
{
    return describe(o, 0);
}

/* ---- rebuilding ---- */

typedef struct rebuilding {
    const nf_types *types;
    size_t n_numbers;
    const char *path;
} rebuilding;

static bool read_rows(const json_t *node, const char *key, size_t *rows)
{
    const json_t *value = json_object_get(node, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > NFI_MAX_ROWS)
        return false;
    *rows = (size_t)json_integer_value(value);
    return true;
}

/* Everything but the children. */
static nf_status read_node(const json_t *node, const rebuilding *b, size_t depth, nf_reader *r)
{
    if (depth >= NFI_MAX_DEPTH)
        return nf_error(NF_EFORMAT, "nf_load: %s: more than %d objects inside one another", b->path, NFI_MAX_DEPTH);
    r->kind = json_string_value(json_object_get(node, "kind"));
    r->type = json_string_value(json_object_get(node, "type"));
    r->fields = json_object_get(node, "fields");
    const json_t *children = json_object_get(node, "children");
    if (!r->kind || !r->type || !json_is_object(r->fields) || !json_is_array(children) || json_object_size(node) != 7 ||
        !read_rows(node, "dim_in", &r->dim_in) || !read_rows(node, "dim_out", &r->dim_out) ||
        !read_rows(node, "n_ctx", &r->n_ctx))
        return nf_error(NF_EFORMAT,
                        "nf_load: %s: an object of the architecture lacks kind, type, dim_in, dim_out, n_ctx, "
                        "fields or children, or they are of the wrong sort",
                        b->path);
    return NF_OK;
}

/* Whether the rebuilt object is what the file said. */
static nf_status check_rebuilt(const nf_object *o, const nf_reader *r, const rebuilding *b)
{
    const nf_shape *s = &o->total;
    if (strcmp(nfi_kind_name(o->kind), r->kind) != 0 || strcmp(o->part->name, r->type) != 0 ||
        o->n_children != r->n_children)
        return nf_error(NF_EFORMAT, "nf_load: %s: the %s '%s' with %zu children was rebuilt as %s '%s' with %zu",
                        b->path, r->kind, r->type, r->n_children, nfi_kind_name(o->kind), o->part->name, o->n_children);
    if (s->dim_in != r->dim_in || s->dim_out != r->dim_out || s->n_ctx != r->n_ctx)
        return nf_error(NF_EFORMAT,
                        "nf_load: %s: the %s '%s' is %zu -> %zu with %zu rows of context, but the file says "
                        "%zu -> %zu with %zu",
                        b->path, r->kind, r->type, s->dim_in, s->dim_out, s->n_ctx, r->dim_in, r->dim_out, r->n_ctx);
    /* Parameters of objects that are amortised come from elsewhere; their number may exceed the file's. */
    if (!(s->flags & NF_PER_SAMPLE) && (s->n_params > b->n_numbers || s->n_state > b->n_numbers))
        return nf_error(NF_EFORMAT,
                        "nf_load: %s: the %s '%s' has %zu parameters and %zu of state, the file %zu numbers", b->path,
                        r->kind, r->type, s->n_params, s->n_state, b->n_numbers);
    return NF_OK;
}

/* What the type makes of the reader, and whatever went wrong inside as one message; success leaves the thread's. */
static nf_object *call_hook(nf_reader *r, const rebuilding *b)
{
    char before[512];
    nf_status status = nf_error_status();
    snprintf(before, sizeof before, "%s", nf_error_message());
    nf_error(NF_EFORMAT, "its type cannot rebuild it");
    nf_object *o = nfi_rebuild_type(r->kind, r->type, b->types, r);
    if (o)
        nf_error(status, "%s", before);
    else
        nf_error(nf_error_status() == NF_ENOMEM ? NF_ENOMEM : NF_EFORMAT, "nf_load: %s: %s '%s': %s", b->path, r->kind,
                 r->type, nf_error_message());
    return o;
}

static nf_object *rebuild(const json_t *node, const rebuilding *b, size_t depth)
{
    nf_reader r = {.n_numbers = b->n_numbers};
    if (read_node(node, b, depth, &r) != NF_OK)
        return NULL;
    const json_t *children = json_object_get(node, "children");
    size_t n = json_array_size(children);
    r.children = nfi_calloc(n, sizeof(nf_object *));
    for (; r.children && r.n_children < n; r.n_children++) {
        r.children[r.n_children] = rebuild(json_array_get(children, r.n_children), b, depth + 1);
        if (!r.children[r.n_children])
            break;
    }
    nf_object *o = r.children && r.n_children == n ? call_hook(&r, b) : NULL;
    if (o && check_rebuilt(o, &r, b) != NF_OK) {
        nf_object_free(o);
        o = NULL;
    }
    for (size_t i = 0; i < r.n_children; i++)
        nf_object_free(r.children[i]);
    nfi_free(r.children);
    return o;
}

nf_object *nfi_rebuild(const struct json_t *description, const nf_types *types, size_t n_numbers, const char *path)
{
    rebuilding b = {.types = types, .n_numbers = n_numbers, .path = path};
    return rebuild(description, &b, 0);
}
