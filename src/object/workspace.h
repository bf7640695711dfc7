/* Workspaces from the inside: the threads' memory. */
#ifndef NFI_WORKSPACE_H
#define NFI_WORKSPACE_H
#include "base/memory.h"
#include <nflow/model.h>

/* The memory of one thread. The padding keeps threads out of each other's cache lines. */
typedef struct nfi_thread {
    nf_arena tape, scratch;
    size_t failed; /* samples of the present batch call that have no result */
    char padding[128];
} nfi_thread;

struct nf_workspace {
    size_t n_threads;
    nfi_thread *thread; /* [n_threads] */
    nf_arena shared;    /* the calling thread's: arrays of a whole batch */
    size_t failed;      /* samples of the last batch call that had no result */
    /* the tapes between nf_posterior_forward and nf_posterior_backward, NULL if there are none: see vae/posterior.c */
    struct nfi_plugin *plugin;
    nf_arena plugin_tape; /* an arena of its own, so that other calls may come in between */
};

/* Gives the caller's workspace, or a temporary one if `ws` is NULL; NULL when out of memory. nfi_workspace_return frees
   the temporary one. */
static inline nf_workspace *nfi_workspace_borrow(nf_workspace *ws)
{
    return ws ? ws : nf_workspace_new(0);
}
static inline void nfi_workspace_return(const nf_workspace *ws, nf_workspace *borrowed)
{
    if (borrowed != ws)
        nf_workspace_free(borrowed);
}

/* Call these before and after a batch call. nf_workspace_failed() is then what the threads of that call have
   counted. */
void nfi_failures_begin(nf_workspace *ws);
void nfi_failures_end(nf_workspace *ws);

#endif
