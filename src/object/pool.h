/* The threads of a workspace. They are started when a call first has work for more than one, sleep between calls, and
   end with the workspace. How many threads take part in a piece of work is decided here and nowhere else.

   Work never fails. If the system refuses to start a thread (a limit on processes, too little memory), fewer threads
   do the work; the calling thread alone if need be. In a child of fork() the threads of the parent do not exist, so the
   child's first call starts its own. */
#ifndef NFI_POOL_H
#define NFI_POOL_H
#include "object/team.h"
#include <sys/types.h>

/* The work of thread `thread` of n_threads; the calling thread is number 0. */
typedef void nfi_work_fn(void *user, size_t thread, size_t n_threads);

struct nfi_worker;
typedef struct nfi_pool {
    size_t most;      /* threads that were asked for, with the calling one */
    bool tried;       /* whether the system was asked for them */
    size_t n_workers; /* threads that were started */
    pid_t process;    /* in which they run */
    struct nfi_worker *worker;
    /* The present piece of work. It is written under the lock, and `call` is its number. */
    pthread_mutex_t lock;
    pthread_cond_t called, done;
    atomic_uint call, busy; /* busy: workers that are not done with it */
    nfi_work_fn *work;      /* NULL: the workers end */
    void *user;
    size_t n_threads;
} nfi_pool;

/* A pool for `threads` threads; 0: as many as OpenMP would use. It starts none yet. NF_ENOMEM. */
nf_status nfi_pool_begin(nfi_pool *pool, size_t threads);
/* Ends the threads. */
void nfi_pool_end(nfi_pool *pool);
/* How many threads the pool has, with the calling one. Before they are started: how many were asked for. */
size_t nfi_pool_threads(const nfi_pool *pool);
/* Calls work(user, k, n) for k = 0 .. n-1, each in a thread of its own, and returns when all are done. n is at most
   `most` and the pool's number, and 1 inside another piece of work or in a parallel region of OpenMP in which no more
   threads are allowed. What users' code calls inside, their BLAS say, has one thread; the user's own setting stays. */
void nfi_pool_run(nfi_pool *pool, size_t most, nfi_work_fn *work, void *user);
/* The same with the calling thread alone. */
void nfi_run_alone(nfi_work_fn *work, void *user);

#endif
