/* Pools of threads: see pool.h. These are plain POSIX threads. OpenMP's own would end the process where a thread cannot
   be started, would hang in a child of fork(), and their number per calling thread would be unknown. OpenMP is asked
   for three things only: how many threads the user wants, whether the call comes from a parallel region, and that
   users' code inside has one thread.

   A call writes its work and its number under the lock and wakes the workers; those whose number is below n_threads
   take part. A worker that does not take part may miss calls. The caller does its own share and waits until `busy` is
   0, so the work stays as it is while someone needs it. Whoever waits spins for some microseconds, then sleeps. */
#include "object/pool.h"
#include "base/memory.h"
#include <omp.h>
#include <unistd.h>

enum { OPENMP_BYTES = 1 << 21 }; /* more than malloc takes from the system when a thread first sets something */

struct nfi_worker {
    nfi_pool *pool;
    size_t number; /* of the thread, from 1 on */
    pthread_t id;
};

/* Whether this thread is doing a pool's work, and whether OpenMP has its memory for the thread. */
static _Thread_local bool inside, known;

nf_status nfi_pool_begin(nfi_pool *pool, size_t threads)
{
    *pool = (nfi_pool){.most = threads ? threads : (size_t)omp_get_max_threads()};
    pool->worker = nfi_calloc(pool->most, sizeof *pool->worker);
    return pool->worker ? NF_OK : NF_ENOMEM;
}

size_t nfi_pool_threads(const nfi_pool *pool)
{
    return pool->tried ? pool->n_workers + 1 : pool->most;
}

/* Sets how many threads OpenMP uses in this thread. OpenMP would end the process if it had no memory for that, so
   without memory the setting stays. */
static void set_openmp(int threads)
{
    known = known || nfi_has_room(OPENMP_BYTES);
    if (known)
        omp_set_num_threads(threads);
}

static void work_inside(nfi_work_fn *work, void *user, size_t thread, size_t n_threads)
{
    const bool outer = inside;
    const int threads = omp_get_max_threads();
    inside = true;
    if (threads != 1)
        set_openmp(1); /* keeps a user's BLAS single-threaded here */
    work(user, thread, n_threads);
    if (threads != 1)
        set_openmp(threads);
    inside = outer;
}

void nfi_run_alone(nfi_work_fn *work, void *user)
{
    work_inside(work, user, 0, 1);
}

/* ---- workers ---- */

static void *worker_main(void *of)
{
    struct nfi_worker *w = of;
    nfi_pool *pool = w->pool;
    for (unsigned seen = 0;;) {
        nfi_spin_while(&pool->call, seen);
        pthread_mutex_lock(&pool->lock);
        while (atomic_load(&pool->call) == seen)
            pthread_cond_wait(&pool->called, &pool->lock);
        seen = atomic_load(&pool->call);
        nfi_work_fn *work = pool->work;
        void *user = pool->user;
        const size_t n_threads = pool->n_threads;
        pthread_mutex_unlock(&pool->lock);
        if (!work)
            return NULL;
        if (w->number >= n_threads)
            continue;
        work_inside(work, user, w->number, n_threads);
        if (atomic_fetch_sub(&pool->busy, 1) == 1) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

/* Hands out a piece of work; NULL ends the workers. */
static void call(nfi_pool *pool, size_t n_threads, nfi_work_fn *work, void *user)
{
    pthread_mutex_lock(&pool->lock);
    pool->work = work;
    pool->user = user;
    pool->n_threads = n_threads;
    atomic_store(&pool->busy, (unsigned)(n_threads - 1));
    atomic_fetch_add(&pool->call, 1);
    pthread_cond_broadcast(&pool->called);
    pthread_mutex_unlock(&pool->lock);
}

static void wait_until_done(nfi_pool *pool)
{
    for (unsigned busy; (busy = atomic_load(&pool->busy)) != 0;)
        if (!nfi_spin_while(&pool->busy, busy))
            break;
    pthread_mutex_lock(&pool->lock); /* also if all are done: the last one may still be about to signal */
    while (atomic_load(&pool->busy) != 0)
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

/* ---- starting and ending ---- */

static bool start_worker(nfi_pool *pool)
{
    struct nfi_worker *w = &pool->worker[pool->n_workers];
    *w = (struct nfi_worker){.pool = pool, .number = pool->n_workers + 1};
    return pthread_create(&w->id, NULL, worker_main, w) == 0;
}

static void start(nfi_pool *pool)
{
    *pool = (nfi_pool){.most = pool->most, .worker = pool->worker, .tried = true, .process = getpid()};
    if (pthread_mutex_init(&pool->lock, NULL) == 0) {
        if (pthread_cond_init(&pool->called, NULL) == 0) {
            if (pthread_cond_init(&pool->done, NULL) == 0) {
                while (pool->n_workers < pool->most - 1 && start_worker(pool))
                    pool->n_workers++;
                if (pool->n_workers)
                    return;
                pthread_cond_destroy(&pool->done);
            }
            pthread_cond_destroy(&pool->called);
        }
        pthread_mutex_destroy(&pool->lock);
    }
}

void nfi_pool_end(nfi_pool *pool)
{
    if (pool->n_workers && pool->process == getpid()) {
        call(pool, 1, NULL, NULL);
        for (size_t i = 0; i < pool->n_workers; i++)
            pthread_join(pool->worker[i].id, NULL);
        pthread_cond_destroy(&pool->done);
        pthread_cond_destroy(&pool->called);
        pthread_mutex_destroy(&pool->lock);
    }
    nfi_free(pool->worker);
    *pool = (nfi_pool){.worker = NULL};
}

void nfi_pool_run(nfi_pool *pool, size_t most, nfi_work_fn *work, void *user)
{
    size_t n = most < pool->most ? most : pool->most;
    if (n > 1 && (inside || omp_get_active_level() >= omp_get_max_active_levels()))
        n = 1;
    if (n > 1 && (pool->n_workers == 0 || pool->process != getpid())) /* none yet, or they stayed in the parent */
        start(pool);
    n = n < pool->n_workers + 1 ? n : pool->n_workers + 1;
    if (n <= 1) {
        nfi_run_alone(work, user);
        return;
    }
    call(pool, n, work, user);
    work_inside(work, user, 0, n);
    wait_until_done(pool);
}
