/* Mutations of JSON, which leave it well formed, so that what reads its values is reached. */
#include "fuzz.h"
#include <jansson.h>
#include <math.h>

enum { MOST_NODES = 4096 };

/* A value in the tree and where it hangs. */
typedef struct node {
    json_t *parent, *value;
    const char *key; /* in an object */
    size_t index;    /* in an array */
} node;

static size_t collect(json_t *value, node *list, size_t n)
{
    const char *key;
    json_t *child;
    size_t i;
    if (json_is_object(value))
        json_object_foreach(value, key, child)
        {
            if (n == MOST_NODES)
                return n;
            list[n++] = (node){.parent = value, .value = child, .key = key};
            n = collect(child, list, n);
        }
    else
        json_array_foreach(value, i, child)
        {
            if (n == MOST_NODES)
                return n;
            list[n++] = (node){.parent = value, .value = child, .index = i};
            n = collect(child, list, n);
        }
    return n;
}

static json_t *some_integer(json_int_t was, fuzz_random *r)
{
    static const json_int_t far[] = {
        -1, 64, 257, 4096, 1 << 22, (1 << 22) + 1, INT32_MAX, UINT32_MAX, INT64_C(1) << 53, INT64_MAX, INT64_MIN};
    const size_t how = fuzz_below(r, 20);
    if (how < 12)
        return json_integer((json_int_t)fuzz_below(r, 9));
    if (how < 16 && was < INT32_MAX && was > INT32_MIN)
        return json_integer(how < 14 ? was + 1 : how < 15 ? was - 1 : 2 * was);
    if (how < 19)
        return json_integer((json_int_t)fuzz_below(r, 40));
    return json_integer(far[fuzz_below(r, sizeof far / sizeof *far)]);
}

static json_t *some_real(double was, fuzz_random *r)
{
    static const double far[] = {0, -0.0, 1, -1, 0.5, 1e-3, 2, 30, 1e-320, 1e300, -1e300, 1 - 1e-16, 1 + 1e-15};
    static const char *const words[] = {"nan", "inf", "-inf"};
    const size_t how = fuzz_below(r, 12);
    if (how == 0)
        return json_string(words[fuzz_below(r, 3)]);
    if (how < 4 && isfinite(was * 2))
        return json_real(how == 1 ? -was : how == 2 ? 2 * was : was / 2);
    return json_real(far[fuzz_below(r, sizeof far / sizeof *far)]);
}

/* A value for the place of `at`; a new reference. */
static json_t *another(const node *at, const node *list, size_t n, fuzz_random *r)
{
    json_t *same = NULL; /* a value of the same kind from elsewhere */
    for (size_t tries = 0; tries < 16 && !same; tries++) {
        const node *other = &list[fuzz_below(r, n)];
        const bool same_key = !at->key || !other->key || strcmp(at->key, other->key) == 0 || tries > 12;
        if (json_typeof(other->value) == json_typeof(at->value) && other != at && same_key)
            same = other->value;
    }
    if (fuzz_below(r, 16) == 0)
        return json_deep_copy(list[fuzz_below(r, n)].value);
    if (json_is_integer(at->value))
        return some_integer(json_integer_value(at->value), r);
    if (json_is_real(at->value))
        return some_real(json_real_value(at->value), r);
    if (json_is_boolean(at->value))
        return json_boolean(!json_is_true(at->value));
    if (same)
        return json_deep_copy(same);
    return json_is_string(at->value) ? json_string(fuzz_below(r, 2) ? "flow" : "") : json_integer(2);
}

static void change(json_t *root, fuzz_random *r)
{
    static node list[MOST_NODES];
    const size_t n = collect(root, list, 0);
    if (n == 0)
        return;
    const node at = list[fuzz_below(r, n)];
    const size_t how = fuzz_below(r, 12);
    if (how == 0 && at.key)
        json_object_del(at.parent, at.key);
    else if (how == 0)
        json_array_remove(at.parent, at.index);
    else if (how == 1 && !at.key)
        json_array_insert_new(at.parent, fuzz_below(r, json_array_size(at.parent) + 1), json_deep_copy(at.value));
    else if (how == 2 && json_is_object(at.value)) { /* wrapped: a flow in another one */
        json_t *inner = json_deep_copy(at.value), *children = json_array(), *outer = json_object();
        static const char *const types[] = {"invert", "chain", "amortized", "pushforward", "blocks", "on_context"};
        json_array_append_new(children, inner);
        json_object_set(outer, "kind", json_object_get(inner, "kind"));
        json_object_set_new(outer, "type", json_string(types[fuzz_below(r, 6)]));
        json_object_set_new(outer, "children", children);
        if (at.key)
            json_object_set_new(at.parent, at.key, outer);
        else
            json_array_set_new(at.parent, at.index, outer);
    } else if (at.key)
        json_object_set_new(at.parent, at.key, another(&at, list, n, r));
    else
        json_array_set_new(at.parent, at.index, another(&at, list, n, r));
}

void fuzz_json(json_t **root, fuzz_random *r)
{
    for (size_t i = fuzz_below(r, 3); i < 3; i++)
        change(*root, r);
}

void fuzz_describes_itself(const nf_object *o, const nf_types *types)
{
    char *text = nf_describe(o);
    FUZZ_MUST(text, "an object that was rebuilt has no description");
    nf_object *again = nf_rebuild(text, types);
    FUZZ_MUST(again, "a description that the library wrote does not rebuild");
    char *second = nf_describe(again);
    FUZZ_MUST(second && strcmp(text, second) == 0, "a rebuilt object has another description");
    nf_text_free(text);
    nf_text_free(second);
    nf_object_free(again);
}
