/* Spare workspaces of one thread each: what a call needs beside its arguments is taken from here and given back, so
   that only the first calls allocate. There are as many as calls have run at once. */
#ifndef NFI_SPARES_H
#define NFI_SPARES_H
#include "object/workspace.h"
#include <pthread.h>

typedef struct nfi_spares {
    pthread_mutex_t lock;
    struct nfi_spare *first;
} nfi_spares;

/* One of them. Its workspace is used as if by a call of the library: arrays of the whole call are in ws->shared. */
typedef struct nfi_spare {
    nf_workspace *ws;
    struct nfi_spare *next;
} nfi_spare;

nf_status nfi_spares_begin(nfi_spares *s);
/* All must have been given back. */
void nfi_spares_end(nfi_spares *s);
/* NULL when out of memory. */
nfi_spare *nfi_spares_take(nfi_spares *s);
/* Rewinds the workspace's arenas, too. */
void nfi_spares_give_back(nfi_spares *s, nfi_spare *spare);

#endif
