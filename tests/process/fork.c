/* A child of fork() computes as its parent does, with the parent's workspace and with new ones, though the parent's
   threads do not exist in it; and so does a child of the child, and the parent afterwards. */
#include "process.h"

typedef struct family {
    nf_model *m;
    nf_workspace *ws;
    const scores *should;
    int generations;
} family;

static void compute(void *user)
{
    family *f = user;
    static scores s;
    process_scores(f->m, f->ws, &s);
    MUST(memcmp(&s, f->should, sizeof s) == 0, "generation %d: other numbers", f->generations);
    MUST(nf_workspace_threads(f->ws) == 2, "generation %d: %zu threads", f->generations, nf_workspace_threads(f->ws));
    nf_workspace *mine = nf_workspace_new(2);
    process_scores(f->m, mine, &s);
    MUST(memcmp(&s, f->should, sizeof s) == 0, "generation %d: other numbers in a new workspace", f->generations);
    nf_workspace_free(mine);
    if (f->generations-- > 0)
        in_child("a child's child", compute, f);
    nf_workspace_free(f->ws);
}

/* Frees what it did not use. */
static void only_free(void *user)
{
    family *f = user;
    nf_workspace_free(f->ws);
    nf_model_free(f->m);
}

int main(void)
{
    static scores one, two;
    family f = {.m = process_model(), .ws = nf_workspace_new(1), .should = &one, .generations = 2};
    process_scores(f.m, f.ws, &one);
    nf_workspace_free(f.ws);
    f.ws = nf_workspace_new(2);
    process_scores(f.m, f.ws, &two);
    MUST(memcmp(&one, &two, sizeof one) == 0, "two threads give other numbers than one");
    for (int i = 0; i < 5; i++)
        in_child("a child", compute, &f);
    in_child("a child that frees", only_free, &f);
    process_scores(f.m, f.ws, &two);
    MUST(memcmp(&one, &two, sizeof one) == 0, "the parent has other numbers after fork");
    nf_workspace_free(f.ws);
    nf_model_free(f.m);
    return 0;
}
