/* A team of threads inside one parallel region: its barrier, and the error it reports. */
#ifndef NFI_TEAM_H
#define NFI_TEAM_H
#include <nflow/base.h>
#include <pthread.h>
#include <stdatomic.h>

/* Of several workers' errors the lowest tile's counts. */
typedef struct nfi_team {
    nf_status status;
    size_t tile;
    char message[512];
    pthread_mutex_t lock;
    /* the barrier */
    atomic_uint arrived, generation;
    pthread_cond_t opened;
} nfi_team;

nf_status nfi_team_begin(nfi_team *team);
void nfi_team_end(nfi_team *team);
/* Notes an error with the calling thread's message. */
void nfi_team_error(nfi_team *team, size_t tile, nf_status status);
/* The team's status; an error's message becomes the calling thread's. */
nf_status nfi_team_result(const nfi_team *team);
/* Waits until n_threads have come here. Spins for some microseconds, then sleeps: OpenMP's own barrier spins for
   milliseconds, which on a busy machine keeps the very thread that is waited for from running. */
void nfi_team_wait(nfi_team *team, size_t n_threads);

/* Of `count` pieces, thread k of n has those from share(k) to share(k + 1) - 1: neighbours, so that each thread streams
   through memory of its own. (By turns, pieces of 16 KiB, an update of a million parameters took 2.2 times as long.) */
static inline size_t nfi_team_share(size_t count, size_t thread, size_t n_threads)
{
    return count / n_threads * thread + count % n_threads * thread / n_threads;
}

#endif
