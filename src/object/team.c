/* Teams: a barrier that spins for a bounded time, and the error of the lowest tile. */
#include "object/team.h"
#include <stdio.h>
#include <string.h>

enum { SPINS = 2000 }; /* about 20 microseconds: the threads of an undisturbed step arrive within a shorter time */

nf_status nfi_team_begin(nfi_team *team)
{
    memset(team, 0, sizeof *team);
    if (pthread_mutex_init(&team->lock, NULL))
        return nf_error(NF_ENOMEM, "out of memory: a mutex");
    if (pthread_cond_init(&team->opened, NULL)) {
        pthread_mutex_destroy(&team->lock);
        return nf_error(NF_ENOMEM, "out of memory: a condition variable");
    }
    return NF_OK;
}

void nfi_team_end(nfi_team *team)
{
    pthread_cond_destroy(&team->opened);
    pthread_mutex_destroy(&team->lock);
}

void nfi_team_error(nfi_team *team, size_t tile, nf_status status)
{
    pthread_mutex_lock(&team->lock);
    if (team->status == NF_OK || tile < team->tile) {
        team->status = status;
        team->tile = tile;
        snprintf(team->message, sizeof team->message, "%s", nf_error_message());
    }
    pthread_mutex_unlock(&team->lock);
}

nf_status nfi_team_result(const nfi_team *team)
{
    return team->status == NF_OK ? NF_OK : nf_error(team->status, "%s", team->message);
}

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* takes about as long as x86's pause; `yield` takes no time on most processors */
#endif
}

bool nfi_spin_while(const atomic_uint *value, unsigned is)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(value, memory_order_acquire) != is)
            return true;
        pause_briefly();
    }
    return false;
}

void nfi_team_wait(nfi_team *team, size_t n_threads)
{
    if (n_threads == 1)
        return;
    unsigned generation = atomic_load(&team->generation);
    if (atomic_fetch_add(&team->arrived, 1) + 1 == n_threads) {
        atomic_store(&team->arrived, 0);
        pthread_mutex_lock(&team->lock);
        atomic_fetch_add(&team->generation, 1);
        pthread_cond_broadcast(&team->opened);
        pthread_mutex_unlock(&team->lock);
        return;
    }
    if (nfi_spin_while(&team->generation, generation))
        return;
    pthread_mutex_lock(&team->lock);
    while (atomic_load(&team->generation) == generation)
        pthread_cond_wait(&team->opened, &team->lock);
    pthread_mutex_unlock(&team->lock);
}
