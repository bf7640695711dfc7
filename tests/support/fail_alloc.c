/* Stands between the library and aligned_alloc / free / nf_arena_alloc (linked with --wrap). Blocks are told from the
   test's own by a set of live addresses: a hash table with linear probing under one lock. */
#include "fail_alloc.h"
#include <nflow/object.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>

/* The symbol is another one in float. */
#define GLUE(a, b) a##b
#define SYMBOL(prefix, name) GLUE(prefix, name)
#define real_arena_alloc SYMBOL(__real_, nf_arena_alloc)
#define wrap_arena_alloc SYMBOL(__wrap_, nf_arena_alloc)

void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *p);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *p);
void *real_arena_alloc(nf_arena *a, size_t bytes);
void *wrap_arena_alloc(nf_arena *a, size_t bytes);

enum { SLOTS = 1 << 16 };
static void *slot[SLOTS];
static size_t size_of[SLOTS];
static size_t live, bytes, peak, count, remaining;
static enum { OFF, ALWAYS, ONCE } mode;
static bool failed, arenas; /* whether one was failed; whether arenas' pieces are to fail, not blocks */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static size_t home(const void *p)
{
    return (size_t)((uint64_t)(uintptr_t)p * 0x9e3779b97f4a7c15u >> 48) % SLOTS;
}

static void insert(void *p, size_t size)
{
    if (live + 1 >= SLOTS)
        abort();
    size_t i = home(p);
    while (slot[i])
        i = (i + 1) % SLOTS;
    slot[i] = p;
    size_of[i] = size;
    live++;
    bytes += size;
}

static void erase(void *p)
{
    size_t i = home(p);
    while (slot[i] && slot[i] != p)
        i = (i + 1) % SLOTS;
    if (!slot[i])
        return; /* the test's own block */
    slot[i] = NULL;
    live--;
    bytes -= size_of[i];
    for (size_t j = (i + 1) % SLOTS; slot[j]; j = (j + 1) % SLOTS) { /* close the gap */
        void *q = slot[j];
        slot[j] = NULL;
        live--;
        bytes -= size_of[j];
        insert(q, size_of[j]);
    }
}

/* Whether it is this allocation's turn to fail; under the lock. */
static bool turn(void)
{
    bool fail = mode != OFF && remaining == 0 && !(mode == ONCE && failed);
    if (mode != OFF && remaining > 0)
        remaining--;
    failed |= fail;
    return fail;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    pthread_mutex_lock(&lock);
    count++;
    bool fail = !arenas && turn();
    void *p = fail ? NULL : __real_aligned_alloc(alignment, size);
    if (p)
        insert(p, size);
    peak = bytes > peak ? bytes : peak;
    pthread_mutex_unlock(&lock);
    return p;
}

void __wrap_free(void *p)
{
    if (p) {
        pthread_mutex_lock(&lock);
        erase(p);
        pthread_mutex_unlock(&lock);
    }
    __real_free(p);
}

void *wrap_arena_alloc(nf_arena *a, size_t bytes)
{
    if (arenas) {
        pthread_mutex_lock(&lock);
        bool fail = turn();
        pthread_mutex_unlock(&lock);
        if (fail) {
            nf_error(NF_ENOMEM, "out of memory: %zu bytes of an arena", bytes);
            return NULL;
        }
    }
    return real_arena_alloc(a, bytes);
}

static void start(size_t k, int how, bool of_arenas)
{
    pthread_mutex_lock(&lock);
    remaining = k;
    failed = false;
    arenas = of_arenas;
    mode = how == ONCE ? ONCE : ALWAYS;
    pthread_mutex_unlock(&lock);
}

void fail_alloc_after(size_t k)
{
    start(k, ALWAYS, false);
}

void fail_alloc_once(size_t k)
{
    start(k, ONCE, false);
}

void fail_arena_once(size_t k)
{
    start(k, ONCE, true);
}

bool fail_alloc_off(void)
{
    pthread_mutex_lock(&lock);
    mode = OFF;
    arenas = false;
    bool result = failed;
    pthread_mutex_unlock(&lock);
    return result;
}

size_t alloc_live(void)
{
    pthread_mutex_lock(&lock);
    size_t result = live;
    pthread_mutex_unlock(&lock);
    return result;
}

size_t alloc_count(void)
{
    pthread_mutex_lock(&lock);
    size_t result = count;
    pthread_mutex_unlock(&lock);
    return result;
}

size_t alloc_bytes(void)
{
    pthread_mutex_lock(&lock);
    size_t result = bytes;
    pthread_mutex_unlock(&lock);
    return result;
}

size_t alloc_peak(void)
{
    pthread_mutex_lock(&lock);
    size_t result = peak;
    peak = bytes;
    pthread_mutex_unlock(&lock);
    return result;
}

size_t peak_megabytes(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (size_t)u.ru_maxrss / 1024;
}
