/* Preparation of a bound tree: which nodes have hooks for it, and how threads share them. */
#ifndef NFI_PREPARE_H
#define NFI_PREPARE_H
#include "core/team.h"
#include "core/tree.h"

/* A node with a prepare or prepare_vjp hook, and where its own numbers begin in those of the whole tree. */
typedef struct nfi_prepared {
    const nf_object *o;
    size_t theta, state, prep;
    size_t place; /* in the tree, counted from the root: of several errors the first node's is reported */
} nfi_prepared;

/* The nodes that are to be prepared, those with most prepared numbers first. Empty where nothing is. */
typedef struct nfi_preparation {
    size_t n;
    nfi_prepared *node; /* [n] */
    size_t n_numbers;   /* prepared numbers of all of them */
} nfi_preparation;

/* The list of a tree's nodes; to be released by nfi_preparation_clear. */
nf_status nfi_list_prepared(const nf_object *o, nfi_preparation *list);
void nfi_preparation_clear(nfi_preparation *list);

/* One round over the list. `next` starts at 0; g_prep NULL: prepare, from theta and state; else prepare_vjp, from
   g_prep to g_theta +=. Numbers are those of the whole tree. */
typedef struct nfi_preparing {
    const nfi_preparation *list;
    nf_mode mode;
    const nf_real *theta;
    nf_real *state, *prep, *g_prep, *g_theta;
    atomic_size_t next;
} nfi_preparing;

/* One thread's work: takes nodes until none is left. Each node is computed by one thread, so that the results do not
   depend on the number of threads. Errors go to the team. */
void nfi_prepare_work(nfi_preparing *run, nfi_team *team);
/* The whole round in a region of its own, on at most `threads` threads; 0: as many as OpenMP would use. */
nf_status nfi_prepare_all(nfi_preparing *run, size_t threads);

#endif
