/* Preparation of a bound tree: which nodes have hooks for it, and how threads share these nodes. */
#ifndef NFI_PREPARE_H
#define NFI_PREPARE_H
#include "object/team.h"
#include "object/tree.h"

/* A node with a prepare or prepare_vjp hook, and where its own numbers begin among those of the whole tree. */
typedef struct nfi_prepared {
    const nf_object *o;
    size_t theta, state, prep;
    size_t place; /* number in the tree, the root is 0; of several errors that of the lowest node is reported */
} nfi_prepared;

/* The nodes that are to be prepared, those with the most prepared numbers first. Empty if there are none. */
typedef struct nfi_preparation {
    size_t n;
    nfi_prepared *node; /* [n] */
    size_t n_numbers;   /* how many numbers all of them prepare */
} nfi_preparation;

/* Lists the nodes of a tree; release the list by nfi_preparation_clear. */
nf_status nfi_list_prepared(const nf_object *o, nfi_preparation *list);
void nfi_preparation_clear(nfi_preparation *list);

/* The fingerprint of what the `prepare` hooks of the list read: the own theta and state of each node that has this
   hook. The arrays are those of the whole tree. */
uint64_t nfi_fingerprint_of(const nfi_preparation *list, const nf_real *theta, const nf_real *state);

/* One round over the list. If g_prep is NULL, the round calls prepare: from theta and state to prep. Otherwise it calls
   prepare_vjp: from g_prep, added to g_theta. The arrays are those of the whole tree. `next` starts at 0. */
typedef struct nfi_preparing {
    const nfi_preparation *list;
    nf_mode mode;
    const nf_real *theta;
    nf_real *state, *prep, *g_prep, *g_theta;
    atomic_size_t next;
} nfi_preparing;

/* The work of one thread: takes nodes until none is left. Each node is computed by one thread only, so that results do
   not depend on the number of threads. Errors go to the team. */
void nfi_prepare_work(nfi_preparing *run, nfi_team *team);
/* The whole round in a parallel region of its own, on at most `threads` threads; 0 means as many as OpenMP would
   use. */
nf_status nfi_prepare_all(nfi_preparing *run, size_t threads);

#endif
