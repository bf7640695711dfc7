/* Collects the tensors that nfi_tree_slices names, and checks that every parameter is in exactly one of them. */
#include "io/slices.h"
#include "object/tree.h"
#include <stdlib.h>
#include <string.h>

typedef struct collector {
    nfi_slices *out;
    size_t capacity;
    nf_status status;
    const char *who;
} collector;

static void count(void *user, const char *name, size_t offset, size_t rank, const size_t *extents)
{
    (void)name, (void)offset, (void)rank, (void)extents;
    ++*(size_t *)user;
}

static void collect(void *user, const char *name, size_t offset, size_t rank, const size_t *extents)
{
    collector *c = user;
    if (c->status != NF_OK || c->out->n == c->capacity)
        return;
    nfi_slice *s = &c->out->slice[c->out->n];
    *s = (nfi_slice){.offset = offset, .count = 1, .rank = rank};
    bool good = rank <= NFI_MAX_RANK && (rank == 0 || extents);
    for (size_t i = 0; good && i < rank; i++) {
        s->extents[i] = extents[i];
        good = nfi_mul(s->count, extents[i], &s->count);
    }
    if (!good) {
        c->status = nf_error(NF_EARG, "%s: tensor %s: rank %zu or its extents are impossible", c->who, name, rank);
        return;
    }
    size_t length = strlen(name);
    char *copy = nf_arena_alloc(&c->out->memory, length + 1);
    if (!copy) {
        c->status = NF_ENOMEM;
        return;
    }
    memcpy(copy, name, length + 1);
    s->name = copy;
    c->out->n++;
}

static int by_offset(const void *a, const void *b)
{
    const nfi_slice *s = a, *t = b;
    if (s->offset != t->offset)
        return s->offset < t->offset ? -1 : 1;
    return (s->count > t->count) - (s->count < t->count);
}

static nf_status check_partition(const nfi_slices *s, size_t n_params, const char *who)
{
    size_t next = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (s->slice[i].offset != next || s->slice[i].count > n_params - next)
            return nf_error(NF_EARG,
                            "%s: tensor %s begins at parameter %zu and has %zu; expected the next at %zu of %zu", who,
                            s->slice[i].name, s->slice[i].offset, s->slice[i].count, next, n_params);
        next += s->slice[i].count;
    }
    if (next != n_params)
        return nf_error(NF_EARG, "%s: tensors name %zu of %zu parameters", who, next, n_params);
    return NF_OK;
}

nf_status nfi_slices_of(const nf_object *o, const char *who, nfi_slices *out)
{
    *out = (nfi_slices){0};
    collector c = {.out = out, .who = who};
    size_t bytes;
    nfi_tree_slices(o, count, &c.capacity);
    if (!nfi_mul(c.capacity, sizeof *out->slice, &bytes) || !(out->slice = nf_arena_alloc(&out->memory, bytes)))
        c.status = NF_ENOMEM;
    else
        nfi_tree_slices(o, collect, &c);
    if (c.status == NF_OK) {
        qsort(out->slice, out->n, sizeof *out->slice, by_offset);
        c.status = check_partition(out, o->total.n_params, who);
    }
    if (c.status != NF_OK)
        nfi_slices_free(out);
    return c.status;
}

void nfi_slices_free(nfi_slices *s)
{
    nfi_arena_clear(&s->memory);
    *s = (nfi_slices){0};
}
