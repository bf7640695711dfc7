/* References to objects, see parts.h. One number counts both kinds: callers' references in the lower half, those of
   larger objects and models in units of HELD. An object lives until both are 0. */
#include "object/parts.h"
#include "base/memory.h"
#include "base/status.h"
#include <stdio.h>

#define HELD (UINT64_C(1) << 32)

static void destroy(nf_object *o)
{
    nfi_parts_drop(o->n_children, o->children);
    if (o->part->destroy && o->self)
        o->part->destroy(o->self);
    nfi_free(o->children);
    nfi_free(o->place);
    nfi_free(o->completed);
    nfi_free(o);
}

/* Takes one reference away from the callers and adds `held` to those held otherwise. False, and no change, if the
   callers have none. *left becomes the present number. */
static bool take_from_callers(nf_object *o, uint64_t held, uint64_t *left)
{
    uint64_t refs = atomic_load_explicit(&o->refs, memory_order_relaxed);
    do {
        if ((uint32_t)refs == 0)
            return false;
        *left = refs - 1 + held;
    } while (
        !atomic_compare_exchange_weak_explicit(&o->refs, &refs, *left, memory_order_acq_rel, memory_order_relaxed));
    return true;
}

nf_object *nf_object_ref(nf_object *o)
{
    if (o)
        atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
    return o;
}

void nf_object_free(nf_object *o)
{
    uint64_t left;
    if (!o)
        return;
    if (!take_from_callers(o, 0, &left))
        nf_error(NF_EARG, "nf_object_free: the %s belongs to a larger object or to a model, and to no caller",
                 o->part->name);
    else if (left == 0)
        destroy(o);
}

void nfi_parts_drop(size_t n, nf_object *const *part)
{
    for (size_t i = 0; i < n; i++)
        if (atomic_fetch_sub_explicit(&part[i]->refs, HELD, memory_order_acq_rel) == HELD)
            destroy(part[i]);
}

void nfi_part_hold(nf_object *o)
{
    atomic_fetch_add_explicit(&o->refs, HELD, memory_order_relaxed);
}

/* While it works, all parts are held, so that an object that occurs twice lives to its second occurrence. */
void nfi_parts_release(size_t n, nf_object *const *part)
{
    uint64_t left;
    for (size_t i = 0; i < n; i++)
        if (part[i])
            nfi_part_hold(part[i]);
    for (size_t i = 0; i < n; i++)
        if (part[i])
            take_from_callers(part[i], 0, &left);
    for (size_t i = 0; i < n; i++)
        if (part[i])
            nfi_parts_drop(1, &part[i]);
}

static const char *label(size_t i, const char *const *name, char text[64])
{
    if (name)
        snprintf(text, 64, "`%s`", name[i]);
    else
        snprintf(text, 64, "part %zu", i);
    return text;
}

static void give_back(size_t n, nf_object *const *part)
{
    for (size_t i = 0; i < n; i++)
        atomic_fetch_sub_explicit(&part[i]->refs, HELD - 1, memory_order_acq_rel);
}

/* The message for part i, of which the caller owns no reference, or fewer than it has given. */
static void say_not_owned(const char *who, size_t i, nf_object *const *part, const char *const *name)
{
    char here[64], there[64];
    size_t j = 0;
    while (j < i && part[j] != part[i])
        j++;
    if (j < i)
        nf_error(NF_EARG,
                 "%s: %s is the same object as %s, and no reference was taken for it; nf_%s_ref() takes one for each "
                 "further use",
                 who, label(i, name, here), label(j, name, there), nf_object_kind(part[i]));
    else
        nf_error(NF_EARG,
                 "%s: %s, a %s, belongs to a larger object or a model already, and no reference was taken for it; "
                 "nf_%s_ref() takes one for each further use",
                 who, label(i, name, here), part[i]->part->name, nf_object_kind(part[i]));
}

bool nfi_parts_take(const char *who, size_t n, nf_object *const *part, const char *const *name)
{
    char text[64];
    uint64_t left;
    size_t i = 0, taken = 0;
    while (i < n && part[i])
        i++;
    if (i < n)
        nfi_missing(who, label(i, name, text));
    while (i == n && taken < n && take_from_callers(part[taken], HELD, &left))
        taken++;
    if (i == n && taken == n)
        return true;
    if (i == n)
        say_not_owned(who, taken, part, name);
    give_back(taken, part);
    nfi_parts_release(n, part);
    return false;
}

bool nfi_parts_given(const char *who, size_t n, nf_object *const *part, const char *const *name)
{
    if (!nfi_parts_take(who, n, part, name))
        return false;
    give_back(n, part);
    return true;
}
