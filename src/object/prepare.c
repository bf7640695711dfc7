/* Preparation: numbers that are derived once a step from theta and state, and how their gradients are pulled back. The
   nodes that have such numbers are listed once, when an object is bound. Each node is a job of its own, since a node's
   hooks read and write its own numbers only. Threads take the jobs one after the other, the largest first. */
#include "object/prepare.h"
#include "base/memory.h"
#include "object/fingerprint.h"
#include <omp.h>
#include <stdlib.h>

enum { WORTH_A_TEAM = 4096 }; /* numbers to prepare; fewer are done before other threads have woken up */

static bool has_hooks(const nf_object *o)
{
    return o->part->prepare || (o->part->prepare_vjp && o->own.n_prep);
}

/* Walks a tree whose root's numbers begin at `at`. Counts the nodes with hooks, and writes them to the list if it has
   room. */
static void collect(const nf_object *o, nfi_prepared at, size_t *place, nfi_preparation *list)
{
    at.o = o;
    at.place = (*place)++;
    if (has_hooks(o)) {
        if (list->node)
            list->node[list->n] = at;
        list->n++;
        list->n_numbers += o->own.n_prep;
    }
    for (size_t i = 0; i < o->n_children; i++) {
        const nfi_place *child = &o->place[i];
        const nfi_prepared begin = {
            .theta = at.theta + child->theta, .state = at.state + child->state, .prep = at.prep + child->prep};
        if (!child->detached)
            collect(o->children[i], begin, place, list);
    }
}

static int larger_first(const void *a, const void *b)
{
    const nfi_prepared *x = a, *y = b;
    if (x->o->own.n_prep != y->o->own.n_prep)
        return x->o->own.n_prep > y->o->own.n_prep ? -1 : 1;
    return x->place < y->place ? -1 : 1;
}

nf_status nfi_list_prepared(const nf_object *o, nfi_preparation *list)
{
    size_t place = 0;
    *list = (nfi_preparation){.n = 0};
    collect(o, (nfi_prepared){.o = o}, &place, list);
    const size_t n = list->n;
    *list = (nfi_preparation){.n = 0};
    if (n == 0)
        return NF_OK;
    list->node = nfi_calloc(n, sizeof *list->node);
    if (!list->node)
        return NF_ENOMEM;
    place = 0;
    collect(o, (nfi_prepared){.o = o}, &place, list);
    qsort(list->node, n, sizeof *list->node, larger_first);
    return NF_OK;
}

void nfi_preparation_clear(nfi_preparation *list)
{
    nfi_free(list->node);
    *list = (nfi_preparation){.n = 0};
}

uint64_t nfi_fingerprint_of(const nfi_preparation *list, const nf_real *theta, const nf_real *state)
{
    uint64_t result = 0;
    for (size_t i = 0; i < list->n; i++) {
        const nfi_prepared *at = &list->node[i];
        if (!at->o->part->prepare)
            continue;
        result = nfi_fingerprint(result, at->o->own.n_params, theta + at->theta);
        result = nfi_fingerprint(result, at->o->own.n_state, state + at->state);
    }
    return result;
}

static nf_status prepare_node(const nfi_preparing *run, const nfi_prepared *at)
{
    const nf_part *part = at->o->part;
    const nf_real *theta = run->theta + at->theta;
    nf_real *state = run->state + at->state, *prep = run->prep + at->prep;
    if (!run->g_prep)
        return part->prepare ? part->prepare(at->o, run->mode, theta, state, prep) : NF_OK;
    return part->prepare_vjp && at->o->own.n_prep
               ? part->prepare_vjp(at->o, theta, state, prep, run->g_prep + at->prep, run->g_theta + at->theta)
               : NF_OK;
}

void nfi_prepare_work(nfi_preparing *run, nfi_team *team)
{
    for (size_t i; (i = atomic_fetch_add(&run->next, 1)) < run->list->n;) {
        const nf_status status = prepare_node(run, &run->list->node[i]);
        if (status != NF_OK)
            nfi_team_error(team, run->list->node[i].place, status);
    }
}

nf_status nfi_prepare_all(nfi_preparing *run, size_t threads)
{
    const size_t n = run->list->n;
    nfi_team team;
    if (n == 0)
        return NF_OK;
    if (nfi_team_begin(&team) != NF_OK)
        return NF_ENOMEM;
    threads = threads ? threads : (size_t)omp_get_max_threads();
    threads = threads < n ? threads : n;
    if (threads <= 1 || run->list->n_numbers < WORTH_A_TEAM)
        nfi_prepare_work(run, &team);
    else {
#pragma omp parallel num_threads((int)threads)
        {
            omp_set_num_threads(1); /* keeps a user's BLAS single-threaded here; the user's own setting stays */
            nfi_prepare_work(run, &team);
        }
    }
    const nf_status status = nfi_team_result(&team);
    nfi_team_end(&team);
    return status;
}
