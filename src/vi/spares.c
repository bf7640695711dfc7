/* See spares.h. The last one that was given back is the next to be taken: its memory may still be in a cache. */
#include "vi/spares.h"

nf_status nfi_spares_begin(nfi_spares *s)
{
    *s = (nfi_spares){.first = NULL};
    return pthread_mutex_init(&s->lock, NULL) ? nf_error(NF_ENOMEM, "out of memory: a mutex") : NF_OK;
}

void nfi_spares_end(nfi_spares *s)
{
    for (nfi_spare *next; s->first; s->first = next) {
        next = s->first->next;
        nf_workspace_free(s->first->ws);
        nfi_free(s->first);
    }
    pthread_mutex_destroy(&s->lock);
}

nfi_spare *nfi_spares_take(nfi_spares *s)
{
    pthread_mutex_lock(&s->lock);
    nfi_spare *spare = s->first;
    if (spare)
        s->first = spare->next;
    pthread_mutex_unlock(&s->lock);
    if (spare)
        return spare;
    spare = nfi_calloc(1, sizeof *spare);
    if (spare && !(spare->ws = nf_workspace_new(1))) {
        nfi_free(spare);
        return NULL;
    }
    return spare;
}

void nfi_spares_give_back(nfi_spares *s, nfi_spare *spare)
{
    const nf_mark start = {0};
    nf_arena_rewind(&spare->ws->shared, start);
    nf_arena_rewind(&spare->ws->thread[0].tape, start);
    nf_arena_rewind(&spare->ws->thread[0].scratch, start);
    pthread_mutex_lock(&s->lock);
    spare->next = s->first;
    s->first = spare;
    pthread_mutex_unlock(&s->lock);
}
