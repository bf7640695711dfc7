/*
 * Architectures as JSON. One walk goes down the tree and writes; another one rebuilds objects, children first.
 *
 * Rebuilding trusts nothing. An object is structure only, and its claims are checked before its numbers are allocated:
 * features are bounded, and objects with parameters of their own cannot have more of them than the file holds.
 */
#include "model/description.h"
#include "model/types.h"
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static json_t *describe(const nf_object *o, size_t depth, const char *who);

static json_t *no_memory(const char *who)
{
    nf_error(NF_ENOMEM, "%s: no memory for the architecture, or a type's name is not UTF-8", who);
    return NULL;
}

static json_t *describe_children(const nf_object *o, size_t depth, const char *who)
{
    json_t *array = json_array();
    if (!array)
        return no_memory(who);
    for (size_t i = 0; i < o->n_children; i++) {
        json_t *child = describe(o->children[i], depth + 1, who);
        if (child && json_array_append_new(array, child) == 0)
            continue;
        json_decref(array);
        return child ? no_memory(who) : NULL;
    }
    return array;
}

static json_t *describe_fields(const nf_object *o, const char *who)
{
    nf_writer w = {.o = o, .fields = json_object()};
    if (!w.fields)
        return no_memory(who);
    const nf_option_table *options = nfi_options_of(o->kind, o->type);
    nf_status status = NF_OK;
    if (o->part->describe)
        status = o->part->describe(o, &w);
    else if (options)
        status = nf_options_write(&w, options, o->self);
    if (status != NF_OK) {
        json_decref(w.fields);
        return NULL;
    }
    return w.fields;
}

static json_t *describe(const nf_object *o, size_t depth, const char *who)
{
    const nf_shape *s = &o->total;
    if (depth >= NFI_MAX_DEPTH || s->dim_in > NFI_MAX_ROWS || s->dim_out > NFI_MAX_ROWS || s->n_ctx > NFI_MAX_ROWS) {
        nf_error(NF_EUNSUPPORTED,
                 "%s: %s: descriptions hold at most %d objects inside one another and %d features, this is "
                 "object %zu with %zu -> %zu features and %zu features of context",
                 who, o->part->name, NFI_MAX_DEPTH, NFI_MAX_ROWS, depth + 1, s->dim_in, s->dim_out, s->n_ctx);
        return NULL;
    }
    json_t *fields = describe_fields(o, who);
    json_t *children = fields ? describe_children(o, depth, who) : NULL;
    if (!children) {
        json_decref(fields);
        return NULL;
    }
    json_t *node = json_object();
    int bad = json_object_set_new(node, "kind", json_string(nf_object_kind(o)));
    bad |= json_object_set_new(node, "type", json_string(o->part->name));
    bad |= json_object_set_new(node, "dim_in", json_integer((json_int_t)s->dim_in));
    bad |= json_object_set_new(node, "dim_out", json_integer((json_int_t)s->dim_out));
    bad |= json_object_set_new(node, "n_ctx", json_integer((json_int_t)s->n_ctx));
    bad |= json_object_set_new(node, "fields", fields);
    bad |= json_object_set_new(node, "children", children);
    if (bad) {
        json_decref(node);
        return no_memory(who);
    }
    return node;
}

struct json_t *nfi_describe(const nf_object *o, const char *who)
{
    return describe(o, 0, who);
}

/* ---- rebuilding ---- */

typedef struct rebuilding {
    const nfi_origin *from;
    size_t n_params, n_state; /* of those objects built so far that have numbers of their own */
} rebuilding;

/* A place in the tree: the index-th child of its parent. */
typedef struct place {
    const struct place *parent; /* NULL for the root */
    size_t index, depth;
} place;

/* Writes the path from the root to this place, "1.0"; returns its length. */
static size_t write_place(const place *at, size_t room, char *text)
{
    if (!at->parent)
        return 0;
    size_t length = write_place(at->parent, room, text);
    if (length < room)
        length += (size_t)snprintf(text + length, room - length, "%s%zu", length ? "." : "", at->index);
    return length;
}

/* Sets a message that begins with where the error is: function, file, place in the tree. */
__attribute__((format(printf, 4, 5))) static nf_status fail(nf_status status, const rebuilding *b, const place *at,
                                                            const char *format, ...)
{
    char text[512], where[128] = "";
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    write_place(at, sizeof where, where);
    const char *path = b->from->path;
    return nf_error(status, "%s: %s%s%s%s%s%s", b->from->who, path ? path : "", path ? ": " : "",
                    at->parent ? "child " : "", where, at->parent ? ": " : "", text);
}

/* Reads a number of features. False only if the member is there, but is not a valid number of features. */
static bool read_rows(const json_t *node, const char *key, nfi_rows_read *rows, size_t *n_members)
{
    const json_t *value = json_object_get(node, key);
    if (!value)
        return true;
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > NFI_MAX_ROWS)
        return false;
    *rows = (nfi_rows_read){.n = (size_t)json_integer_value(value), .given = true};
    ++*n_members;
    return true;
}

/* Reads everything except the children. *children is their array, or NULL if there is none. */
static nf_status read_node(const json_t *node, const rebuilding *b, const place *at, nf_reader *r,
                           const json_t **children)
{
    if (at->depth >= NFI_MAX_DEPTH)
        return fail(NF_EFORMAT, b, at, "more than %d objects inside one another", NFI_MAX_DEPTH);
    r->kind = json_string_value(json_object_get(node, "kind"));
    r->type = json_string_value(json_object_get(node, "type"));
    json_t *fields = json_object_get(node, "fields");
    r->fields = fields;
    *children = json_object_get(node, "children");
    size_t n_members = 2u + (fields != NULL) + (*children != NULL);
    const bool good = r->kind && r->type && (!fields || json_is_object(fields)) &&
                      (!*children || json_is_array(*children)) && read_rows(node, "dim_in", &r->dim_in, &n_members) &&
                      read_rows(node, "dim_out", &r->dim_out, &n_members) &&
                      read_rows(node, "n_ctx", &r->n_ctx, &n_members);
    if (!good || json_object_size(node) != n_members)
        return fail(NF_EFORMAT, b, at,
                    "an object of the architecture lacks kind or type, or dim_in, dim_out, n_ctx, fields or children "
                    "are of the wrong sort, or there is a member beside these");
    if (strcmp(r->kind, "net") == 0) {
        if (!r->dim_in.given || !r->dim_out.given)
            return fail(NF_EFORMAT, b, at, "net '%s': dim_in or dim_out is missing", r->type);
    } else { /* for a flow or a distribution, one dimension stands for both */
        if (!r->dim_in.given)
            r->dim_in.n = r->dim_out.n;
        if (!r->dim_out.given)
            r->dim_out.n = r->dim_in.n;
    }
    r->unread = fields ? json_copy(fields) : json_object();
    return r->unread ? NF_OK : fail(NF_ENOMEM, b, at, "no memory for the fields");
}

static bool differs(const nfi_rows_read *said, size_t is)
{
    return said->given && said->n != is;
}

/* Checks that the rebuilt object is what the description says. */
static nf_status check_rebuilt(const nf_object *o, const nf_reader *r, rebuilding *b, const place *at)
{
    const nf_shape *s = &o->total;
    if (strcmp(nf_object_kind(o), r->kind) != 0 || strcmp(o->part->name, r->type) != 0 ||
        o->n_children != r->n_children)
        return fail(NF_EFORMAT, b, at, "the %s '%s' with %zu children was rebuilt as %s '%s' with %zu", r->kind,
                    r->type, r->n_children, nf_object_kind(o), o->part->name, o->n_children);
    if (differs(&r->dim_in, s->dim_in) || differs(&r->dim_out, s->dim_out) || differs(&r->n_ctx, s->n_ctx))
        return fail(
            NF_EFORMAT, b, at,
            "the %s '%s' is %zu -> %zu with %zu features of context, but the description says %zu -> %zu with %zu",
            r->kind, r->type, s->dim_in, s->dim_out, s->n_ctx, r->dim_in.n, r->dim_out.n, r->n_ctx.n);
    if (s->dim_in > NFI_MAX_ROWS || s->dim_out > NFI_MAX_ROWS || s->n_ctx > NFI_MAX_ROWS)
        return fail(NF_EFORMAT, b, at, "the %s '%s' is %zu -> %zu with %zu features of context, more than %d", r->kind,
                    r->type, s->dim_in, s->dim_out, s->n_ctx, NFI_MAX_ROWS);
    const char *unknown = json_object_iter_key(json_object_iter(r->unread));
    if (unknown)
        return fail(NF_EFORMAT, b, at, "%s '%s': the field '%.64s' is unknown", r->kind, r->type, unknown);
    /* The parameters of detached objects come from elsewhere. Those of amortised ones have not been counted, and there
       may be more of them than the file holds; those of a net inside a net have been. */
    const size_t most = b->from->most_numbers;
    for (size_t i = 0; i < o->n_children; i++)
        if (o->place[i].detached && !(o->children[i]->total.flags & NF_PER_SAMPLE))
            b->n_params -= o->children[i]->total.n_params;
    if (!(s->flags & NF_PER_SAMPLE) &&
        (s->n_params > most || s->n_state > most || !nfi_add(b->n_params, o->own.n_params, &b->n_params) ||
         !nfi_add(b->n_state, o->own.n_state, &b->n_state) || b->n_params > most || b->n_state > most))
        return fail(NF_EFORMAT, b, at, "the %s '%s' has %zu parameters and %zu of state, %s %zu numbers", r->kind,
                    r->type, s->n_params, s->n_state, b->from->path ? "the file" : "but descriptions at most", most);
    return NF_OK;
}

/* Calls the type's rebuild hook on the reader. Whatever goes wrong inside becomes one message. On success the thread's
   message stays as it was. */
static nf_object *call_hook(nf_reader *r, const rebuilding *b, const place *at)
{
    char before[512];
    nf_status status = nf_error_status();
    snprintf(before, sizeof before, "%s", nf_error_message());
    nf_error(NF_EFORMAT, "its type cannot rebuild it");
    nf_object *o = nfi_rebuild_type(r->kind, r->type, b->from->types, r);
    if (o)
        nf_error(status, "%s", before);
    else
        fail(nf_error_status() == NF_ENOMEM ? NF_ENOMEM : NF_EFORMAT, b, at, "%s '%s': %s%s%s%s", r->kind, r->type,
             nf_error_message(), r->left_out ? " (" : "", r->left_out ? r->left_out : "",
             r->left_out ? " is left out)" : "");
    return o;
}

static nf_object *rebuild(const json_t *node, rebuilding *b, const place *at)
{
    nf_reader r = {.n_numbers = b->from->n_numbers, .is_file = b->from->path};
    const json_t *children = NULL;
    if (read_node(node, b, at, &r, &children) != NF_OK)
        return NULL;
    size_t n = json_array_size(children);
    r.children = nfi_calloc(n, sizeof(nf_object *));
    for (; r.children && r.n_children < n; r.n_children++) {
        const place child = {.parent = at, .index = r.n_children, .depth = at->depth + 1};
        r.children[r.n_children] = rebuild(json_array_get(children, r.n_children), b, &child);
        if (!r.children[r.n_children])
            break;
    }
    nf_object *o = r.children && r.n_children == n ? call_hook(&r, b, at) : NULL;
    if (o && check_rebuilt(o, &r, b, at) != NF_OK) {
        nf_object_free(o);
        o = NULL;
    }
    for (size_t i = 0; i < r.n_children; i++)
        nf_object_free(r.children[i]);
    nfi_free(r.children);
    nfi_arena_clear(&r.memory);
    json_decref(r.unread);
    return o;
}

nf_object *nfi_rebuild(const struct json_t *description, const nfi_origin *from)
{
    rebuilding b = {.from = from};
    return rebuild(description, &b, &(place){.parent = NULL});
}
