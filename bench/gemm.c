/* OpenBLAS's OpenMP build and BLIS's serial one, by Fortran's symbols, which read by columns: a row-major C is C^T, and
   C^T = alpha op(B)^T op(A)^T + beta C^T, so the operands change places. */
#include "gemm.h"
#include "cli.h"
#include <dlfcn.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#ifdef NF_SINGLE
#define GEMM "sgemm_"
#else
#define GEMM "dgemm_"
#endif
typedef void gemm_fn(const char *transpose_a, const char *transpose_b, const int *m, const int *n, const int *k,
                     const nf_real *alpha, const nf_real *a, const int *lda, const nf_real *b, const int *ldb,
                     const nf_real *beta, nf_real *c, const int *ldc);

/* What the two are called, and where Debian has them. */
static const struct {
    const char *name, *file, *in_folder, *setting;
} libraries[GEMM_LIBRARIES] = {
    {"OpenBLAS", "libopenblas.so.0", "openblas-openmp", "OPENBLAS_CORETYPE"},
    {"BLIS", "libblis.so.4", "blis-serial", "BLIS_ARCH_TYPE"},
};
/* Their words for an instruction set's kernels (BLIS 0.9 wants numbers). Left to themselves, releases of before a
   processor take it for their oldest. */
static const struct {
    const char *set, *word[GEMM_LIBRARIES];
} settings[] = {
    {"sse2", {"Core2", "5"}},
    {"avx2", {"Haswell", "3"}},
    {"avx512", {"SkylakeX", "0"}},
};
static gemm_fn *function[GEMM_LIBRARIES];

static void tell(gemm_library which)
{
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (strcmp(settings[i].set, nf_instruction_set()) == 0)
            setenv(libraries[which].setting, settings[i].word[which], 1);
}

void gemm_open(void)
{
    static const char *const folders[] = {GEMM_FOLDER, ""};
    bool any = false;
    omp_set_num_threads(1); /* OpenBLAS takes its threads when it is opened */
    for (gemm_library l = 0; l < GEMM_LIBRARIES; l++) {
        void *library = NULL;
        tell(l);
        for (size_t i = 0; i < 2 && !library; i++) {
            char path[256] = "";
            if (*folders[i])
                strcat(strcat(strcat(strcat(path, folders[i]), "/"), libraries[l].in_folder), "/");
            library = dlopen(strcat(path, libraries[l].file), RTLD_NOW | RTLD_LOCAL);
        }
        void *symbol = library ? dlsym(library, GEMM) : NULL;
        memcpy(&function[l], &symbol, sizeof symbol); /* C has no conversion from data to functions */
        any = any || symbol;
    }
    if (!any)
        cli_fail(1, "neither OpenBLAS nor BLIS is installed");
}

js_file *gemm_report(const char *json_path, const char *list)
{
    js_file *j = js_open(json_path);
    js_begin(j, NULL, '{');
    js_text(j, "instruction_set", nf_instruction_set());
    js_text(j, "precision", sizeof(nf_real) == 8 ? "double" : "float");
    js_begin(j, list, '[');
    return j;
}

bool gemm_has(gemm_library which)
{
    return function[which] != NULL;
}

const char *gemm_name(gemm_library which)
{
    return libraries[which].name;
}

void gemm(gemm_library which, bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, const nf_real *a,
          size_t lda, const nf_real *b, size_t ldb, nf_real beta, nf_real *c, size_t ldc)
{
    const int im = (int)m, in = (int)n, ik = (int)k, ia = (int)lda, ib = (int)ldb, ic = (int)ldc;
    const nf_real one = 1;
    function[which](transpose_b ? "T" : "N", transpose_a ? "T" : "N", &in, &im, &ik, &one, b, &ib, a, &ia, &beta, c,
                    &ic);
}
