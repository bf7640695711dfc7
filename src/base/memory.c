/* Allocation and arenas. Nothing else in the library calls the allocator, so that tests can let each call fail in
   turn. */
#include "base/memory.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 64, FIRST_CHUNK = 1 << 16, LARGE = 1 << 21 };

bool nfi_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

bool nfi_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* Rounds `bytes` up to a multiple of `unit`, which is a power of two; the result is at least one unit. Returns false on
   overflow. */
static bool round_up(size_t bytes, size_t unit, size_t *out)
{
    if (!nfi_add(bytes ? bytes : 1, unit - 1, out))
        return false;
    *out &= ~(unit - 1);
    return true;
}

/* `bytes` bytes, not initialised. Large blocks ask the system for large pages: gradients and an optimizer's moments are
   read and written from end to end once a step, and page faults take a good part of the time to the first step. The end
   of a block that would not fill a large page gets small pages, since the kernel would clear the whole large page. */
static void *allocate(size_t bytes)
{
    size_t unit = bytes < LARGE ? ALIGN : LARGE, whole;
    void *p = round_up(bytes, unit, &whole) ? aligned_alloc(unit, whole) : NULL;
    if (!p)
        nf_error(NF_ENOMEM, "out of memory: %zu bytes", bytes);
#ifdef MADV_HUGEPAGE
    else if (unit == LARGE)
        (void)madvise(p, bytes & ~(size_t)(LARGE - 1), MADV_HUGEPAGE); /* only a wish: a refusal does no harm */
#endif
    return p;
}

void *nfi_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (!nfi_mul(count, size, &bytes)) {
        nf_error(NF_ENOMEM, "out of memory: %zu x %zu bytes", count, size);
        return NULL;
    }
    void *p = allocate(bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

void nfi_free(void *p)
{
    free(p);
}

void *nf_arena_alloc(nf_arena *a, size_t bytes)
{
    if (!round_up(bytes, ALIGN, &bytes)) {
        nf_error(NF_ENOMEM, "nf_arena_alloc: the size overflows");
        return NULL;
    }
    /* Look for the next kept chunk that is large enough. Chunks that are skipped stay empty until the arena is
       rewound. */
    for (; a->end.chunk < a->n_chunks; a->end.chunk++, a->end.used = 0) {
        if (a->size[a->end.chunk] - a->end.used >= bytes) {
            void *p = a->chunk[a->end.chunk] + a->end.used;
            a->end.used += bytes;
            return p;
        }
    }
    if (a->n_chunks == NFI_MAX_CHUNKS) {
        nf_error(NF_ENOMEM, "nf_arena_alloc: more than %d chunks", NFI_MAX_CHUNKS);
        return NULL;
    }
    size_t size = a->n_chunks ? 2 * a->size[a->n_chunks - 1] : FIRST_CHUNK;
    if (size < bytes)
        size = bytes;
    unsigned char *chunk = allocate(size);
    if (!chunk)
        return NULL;
    a->chunk[a->n_chunks] = chunk;
    a->size[a->n_chunks++] = size;
    a->end.used = bytes;
    return chunk;
}

nf_mark nf_arena_mark(const nf_arena *a)
{
    return a->end;
}

void nf_arena_rewind(nf_arena *a, nf_mark m)
{
    a->end = m;
}

void nfi_arena_clear(nf_arena *a)
{
    for (size_t i = 0; i < a->n_chunks; i++)
        nfi_free(a->chunk[i]);
    *a = (nf_arena){0};
}

size_t nfi_arena_bytes(const nf_arena *a)
{
    size_t bytes = 0;
    for (size_t i = 0; i < a->n_chunks; i++)
        bytes += a->size[i];
    return bytes;
}

size_t nfi_arena_used(const nf_arena *a)
{
    size_t bytes = a->end.used;
    for (size_t i = 0; i < a->end.chunk && i < a->n_chunks; i++)
        bytes += a->size[i];
    return bytes;
}
