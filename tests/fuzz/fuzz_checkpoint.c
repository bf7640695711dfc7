/* nf_fitter_load: a checkpoint of a small fit, with a right checksum most of the time. What loads must go on. */
#include "fuzz.h"
#include "io/safetensors.h"
#include <unistd.h>

enum { ROWS = 6, DIM = 2 };

/* A fit of six points in the plane, with everything that a checkpoint holds. */
typedef struct problem {
    nf_model *m;
    nf_objective *o;
    nf_fitter *f;
} problem;

static problem begin(void)
{
    static const nf_real x[ROWS * DIM] = {1, 2, NF_R(-0.5), 3, NF_R(0.25), -1, 2, 2, NF_R(-1.5), 0, 1, NF_R(0.75)};
    const nf_data data = {.n = ROWS, .dim = DIM, .x = x};
    nf_flow *flow = nf_chain((nf_flow *[]){nf_batch_norm(DIM, NULL), nf_affine(DIM)}, 2);
    problem p = {.m = nf_model_of_dist(nf_pushforward(nf_normal(DIM), flow), NULL)};
    p.o = nf_maximum_likelihood(p.m, &data, &(nf_likelihood_options){.batch = 4});
    p.f = nf_fitter_new(p.o, &(nf_fit_options){.steps = 8, .threads = 1, .optimizer = nf_adam(), .average = 0.5});
    FUZZ_MUST(p.f, "no fitter");
    return p;
}

static void end(problem *p)
{
    nf_fitter_free(p->f);
    nf_objective_free(p->o);
    nf_model_free(p->m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    problem p = begin();
    nf_fit_report report;
    if (nf_fitter_load(p.f, fuzz_file(data, size)) == NF_OK && nf_fitter_run(p.f, 2, &report) != NF_OK)
        FUZZ_MUST(nf_error_message()[0], "a run fails without a message");
    end(&p);
    return 0;
}

/* A checkpoint after three steps, which takes the place of an input that is none: so the first one needs no file, which
   another version of a layer would make a checkpoint of another model. */
static size_t sound(uint8_t *data, size_t max_size)
{
    static uint8_t file[1 << 14];
    static size_t size;
    char path[] = "/tmp/nflow-fuzz-XXXXXX";
    const int fd = size ? -1 : mkstemp(path);
    if (fd >= 0) {
        problem p = begin();
        FUZZ_MUST(nf_fitter_run(p.f, 3, NULL) == NF_OK && nf_fitter_save(p.f, path) == NF_OK, "no checkpoint");
        end(&p);
        FILE *f = fopen(path, "rb");
        size = f ? fread(file, 1, sizeof file, f) : 0;
        FUZZ_MUST(size, "no checkpoint to read");
        fclose(f);
        unlink(path);
        close(fd);
    }
    const size_t n = size < max_size ? size : max_size;
    memcpy(data, file, n);
    return n;
}

/* Writes the checksum that header and data ask for, at the end of the file, where the library has it. */
static void set_checksum(uint8_t *file, size_t size)
{
    nfi_container c;
    if (size < 32 || nfi_container_open(&c, "fuzz", fuzz_file(file, size), NULL) != NF_OK)
        return;
    if (nfi_container_read_data(&c, "fuzz") == NF_OK && c.n_data >= 32) {
        const uint64_t sum = nfi_container_sum(&c, c.n_data - 32);
        for (size_t i = 0; i < 4; i++) {
            const double part = (double)(sum >> 16 * i & 0xffff);
            memcpy(file + size - 32 + 8 * i, &part, sizeof part);
        }
    }
    nfi_container_free(&c);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    fuzz_random r = {seed};
    fuzz_container c;
    const size_t how = fuzz_below(&r, 16);
    if (how == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    if (!fuzz_take_apart(data, size, &c))
        return sound(data, max_size);
    if (how < 3)
        fuzz_json(&c.header, &r);
    else if (how < 4)
        fuzz_metadata(&c, "architecture", &r);
    else if (how < 11)
        fuzz_metadata(&c, "progress", &r);
    else
        fuzz_numbers(&c, &r);
    if (how != 1)
        fuzz_settle(&c, &r);
    const size_t n = fuzz_put_together(&c, data, max_size);
    if (!n)
        return LLVMFuzzerMutate(data, size, max_size);
    if (fuzz_below(&r, 8))
        set_checksum(data, n);
    return n;
}
