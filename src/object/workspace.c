/* Workspaces: the memory of each thread, which is kept from call to call, and the counts of samples that had no
   result. */
#include "object/workspace.h"
#include <omp.h>

nf_workspace *nf_workspace_new(size_t threads)
{
    if (threads == 0)
        threads = (size_t)omp_get_max_threads();
    nf_workspace *ws = nfi_calloc(1, sizeof *ws);
    nfi_thread *thread = nfi_calloc(threads, sizeof *thread);
    if (!ws || !thread) {
        nfi_free(ws);
        nfi_free(thread);
        return NULL;
    }
    ws->n_threads = threads;
    ws->thread = thread;
    return ws;
}

void nf_workspace_free(nf_workspace *ws)
{
    if (!ws)
        return;
    for (size_t i = 0; i < ws->n_threads; i++) {
        nfi_arena_clear(&ws->thread[i].tape);
        nfi_arena_clear(&ws->thread[i].scratch);
    }
    nfi_arena_clear(&ws->shared);
    nfi_arena_clear(&ws->plugin_tape);
    nfi_free(ws->thread);
    nfi_free(ws);
}

size_t nf_workspace_threads(const nf_workspace *ws)
{
    return ws ? ws->n_threads : 0;
}

size_t nf_workspace_failed(const nf_workspace *ws)
{
    return ws ? ws->failed : 0;
}

void nfi_failures_begin(nf_workspace *ws)
{
    ws->failed = 0;
    for (size_t i = 0; i < ws->n_threads; i++)
        ws->thread[i].failed = 0;
}

void nfi_failures_end(nf_workspace *ws)
{
    for (size_t i = 0; i < ws->n_threads; i++)
        ws->failed += ws->thread[i].failed;
}

size_t nf_workspace_bytes(const nf_workspace *ws)
{
    if (!ws)
        return 0;
    size_t bytes = nfi_arena_bytes(&ws->shared) + nfi_arena_bytes(&ws->plugin_tape);
    for (size_t i = 0; i < ws->n_threads; i++)
        bytes += nfi_arena_bytes(&ws->thread[i].tape) + nfi_arena_bytes(&ws->thread[i].scratch);
    return bytes;
}
