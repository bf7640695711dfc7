/* A team of threads that do one piece of work together (pool.h): its barrier, and the error that it reports. */
#ifndef NFI_TEAM_H
#define NFI_TEAM_H
#include <nflow/base.h>
#include <pthread.h>
#include <stdatomic.h>

/* If several threads report errors, the error of the lowest tile counts. */
typedef struct nfi_team {
    _Atomic nf_status status; /* also read while others may still report */
    size_t tile;
    char message[512];
    pthread_mutex_t lock;
    /* the barrier */
    atomic_uint arrived, generation;
    pthread_cond_t opened;
} nfi_team;

nf_status nfi_team_begin(nfi_team *team);
void nfi_team_end(nfi_team *team);
/* Notes an error, with the calling thread's message. */
void nfi_team_error(nfi_team *team, size_t tile, nf_status status);
/* Returns the team's status. The message of an error becomes the calling thread's. */
nf_status nfi_team_result(const nfi_team *team);
/* Waits until n_threads threads have come here. A thread spins for some microseconds, then sleeps. OpenMP's own barrier
   spins for milliseconds; on a busy machine this can keep the very thread that all others wait for from running. */
void nfi_team_wait(nfi_team *team, size_t n_threads);

/* Waits for some microseconds while *value is `is`; returns whether it has changed. */
bool nfi_spin_while(const atomic_uint *value, unsigned is);

/* Of `count` pieces, thread k of n has the pieces share(k) .. share(k + 1) - 1. These are neighbours, so that each
   thread streams through memory of its own. (When threads took pieces of 16 KiB by turns, an update of a million
   parameters took 2.2 times as long.) */
static inline size_t nfi_team_share(size_t count, size_t thread, size_t n_threads)
{
    return count / n_threads * thread + count % n_threads * thread / n_threads;
}

#endif
