/* Where threads cannot start, because of a limit on processes or of little memory, a call has the same results with
   fewer threads. Where their stacks leave no memory for the work it is NF_ENOMEM. It does not print, and the process
   goes on. */
#include "process.h"
#include <pthread.h>

typedef struct limited {
    scores should;
    size_t memory; /* bytes beyond what is in use; 0: the limit is on processes */
} limited;

/* The bytes of address space in use. */
static size_t used(void)
{
    size_t pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    MUST(f && fscanf(f, "%zu", &pages) == 1, "statm");
    fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void limit(const limited *l)
{
    struct rlimit r = {.rlim_cur = 1, .rlim_max = 1};
    if (l->memory) {
        r.rlim_cur = r.rlim_max = used() + l->memory;
        MUST(setrlimit(RLIMIT_AS, &r) == 0, "setrlimit: %s", strerror(errno));
        return;
    }
    if (getuid() == 0) /* the limit does not hold for root */
        MUST(setgid(65534) == 0 && setuid(65534) == 0, "setuid: %s", strerror(errno));
    MUST(setrlimit(RLIMIT_NPROC, &r) == 0, "setrlimit: %s", strerror(errno));
}

static void compute(void *user)
{
    const limited *l = user;
    static scores s;
    int line[2];
    MUST(pipe(line) == 0, "pipe");
    const int print = dup(2);
    nf_model *m = process_model();
    nf_workspace *ws = nf_workspace_new(8);
    limit(l);
    MUST(dup2(line[1], 1) == 1 && dup2(line[1], 2) == 2, "dup2"); /* what is printed comes to `line` */
    close(line[1]);
    const nf_status status = process_try(m, ws, &s);
    nf_model_free(m);
    dup2(print, 1);
    dup2(print, 2);
    char printed[200];
    const ssize_t n = read(line[0], printed, sizeof printed);
    MUST(n == 0, "printed: %.*s", (int)n, printed);
    MUST(status == NF_OK ? memcmp(&s, &l->should, sizeof s) == 0 : l->memory && status == NF_ENOMEM, "other results");
    MUST(nf_workspace_threads(ws) < 8, "%zu threads were started", nf_workspace_threads(ws));
    nf_workspace_free(ws);
}

int main(void)
{
    static limited l;
    nf_model *m = process_model();
    nf_workspace *ws = nf_workspace_new(1);
    process_scores(m, ws, &l.should);
    nf_workspace_free(ws);
    nf_model_free(m);
    in_child("a limit on processes", compute, &l);
    /* Memory for so many stacks, and some pages for what a thread needs beside its stack: with less than that a thread
       starts, and then nobody may allocate for it without a look. */
    pthread_attr_t attributes;
    size_t stack = 0;
    MUST(pthread_attr_init(&attributes) == 0 && pthread_attr_getstacksize(&attributes, &stack) == 0, "stack size");
    for (size_t k = 0; k <= 3; k++)
        for (size_t pages = k ? 0 : 1024; pages <= 2048; pages += pages < 16 ? 1 : 256) {
            l.memory = k * stack + pages * (size_t)sysconf(_SC_PAGESIZE);
            in_child("little memory", compute, &l);
        }
    return 0;
}
