/* Draws in files: their text, byte by byte where that is short; read back by the library's readers; what is refused;
   files that cannot be written. tests/draws.py reads them by other programs. */
#include "fail_alloc.h"
#include "temp_files.h"
#include "support/expect.h"
#include <locale.h>
#include <math.h>
#include <nflow/data.h>
#include <nflow/draws.h>
#include <signal.h>
#include <sys/resource.h>

static char path[160];

static void setup(void)
{
    snprintf(path, sizeof path, "%s/draws.csv", temp_folder());
}

TestSuite(draws, .init = setup, .fini = temp_teardown);

static const char *const names[] = {"mu", "theta.1", "theta.2"};
static const double values[] = {0.1, -2, 1e-310, NAN, INFINITY, 1e22};
static const double log_p[] = {-3.5, -INFINITY}, log_q[] = {-2.25, 0.5}, log_weight[] = {0, -INFINITY};
static const nf_draws few = {2, 3, names, values, log_p, log_q, log_weight};

static void holds(const char *file, const char *text)
{
    size_t n;
    unsigned char *got = file_read(file, &n);
    got[n] = 0;
    cr_assert_str_eq((const char *)got, text);
    cr_assert_eq(n, strlen(text));
    free(got);
}

static void save_csv(const nf_draws *d, const char *comments)
{
    cr_assert_eq(nf_save_draws_csv(path, d, comments), NF_OK, "%s", nf_error_message());
}

/* The comments that come by themselves, of 2 draws. */
static const char *begin(void)
{
    static char text[200];
    snprintf(text, sizeof text, "# method = pathfinder\n# num_draws = 2\n# num_paths = 1\n# nflow_version = %s\n",
             nf_version());
    return text;
}

Test(draws, csv)
{
    char text[1000];
    save_csv(&few, "model = eight_schools\nseed = 7");
    snprintf(text, sizeof text,
             "%s# model = eight_schools\n# seed = 7\nlp_approx__,lp__,log_weight__,mu,theta.1,theta.2\n"
             "-2.25,-3.5,0,0.10000000000000001,-2,9.9999999999999694e-311\n0.5,-Inf,-Inf,NaN,Inf,1e+22\n",
             begin());
    holds(path, text);
    nf_draws d = few;
    d.log_weight = d.log_q = NULL;
    save_csv(&d, "one\n\ntwo\n");
    snprintf(text, sizeof text,
             "%s# one\n# \n# two\nlp__,mu,theta.1,theta.2\n-3.5,0.10000000000000001,-2,9.9999999999999694e-311\n"
             "-Inf,NaN,Inf,1e+22\n",
             begin());
    holds(path, text);
    d.log_p = NULL;
    d.n_outputs = 1;
    save_csv(&d, NULL);
    snprintf(text, sizeof text, "%smu\n0.10000000000000001\n-2\n", begin());
    holds(path, text);
}

/* Many draws, so that the text is longer than any buffer: every number comes back as it was. */
enum { N = 4001, K = 5 };
static const char *const many_names[K] = {"a", "b.1", "b.2", "c d", "e\\'"};

static nf_draws many(void)
{
    static double x[N * K], p[N], q[N];
    for (size_t i = 0; i < N * K; i++)
        x[i] = sin((double)i) * pow(10, (double)(i % 31) - 15);
    for (size_t i = 0; i < N; i++) {
        p[i] = -1e5 + cos((double)i);
        q[i] = cos((double)i) / 3;
    }
    return (nf_draws){.n = N, .n_outputs = K, .names = many_names, .values = x, .log_p = p, .log_q = q};
}

static double number_of(const nf_draws *d, size_t i, size_t k)
{
    return k == 0 ? d->log_q[i] : k == 1 ? d->log_p[i] : d->values[i * K + k - 2];
}

Test(draws, csv_and_npy_are_read_back)
{
    const nf_draws d = many();
    nf_table t;
    nf_array a;
    save_csv(&d, "seed = 1");
    cr_assert_eq(nf_load_csv(path, &(nf_csv_options){.comment = '#'}, &t), NF_OK, "%s", nf_error_message());
    cr_assert(t.n == N && t.dim == K + 2);
    cr_assert_str_eq(t.name[0], "lp_approx__");
    cr_assert_str_eq(t.name[1], "lp__");
    for (size_t k = 0; k < K; k++)
        cr_assert_str_eq(t.name[k + 2], many_names[k]);
    cr_assert_eq(nf_save_draws_npy(path, &d), NF_OK);
    cr_assert_eq(nf_load_npy(path, 0, &a), NF_OK, "%s", nf_error_message());
    cr_assert(a.n == N && a.dim == K + 2 && a.rank == 2);
    for (size_t i = 0; i < N; i++)
        for (size_t k = 0; k < K + 2; k++) {
            cr_assert_eq(t.data[i * (K + 2) + k], (nf_real)number_of(&d, i, k), "%zu %zu", i, k);
            cr_assert_eq(a.data[i * (K + 2) + k], (nf_real)number_of(&d, i, k), "%zu %zu", i, k);
        }
    nf_table_free(&t);
    nf_array_free(&a);
}

Test(draws, npy)
{
    nf_draws d = few;
    d.names = NULL;
    cr_assert_eq(nf_save_draws_npy(path, &d), NF_OK, "%s", nf_error_message());
    size_t n;
    unsigned char *bytes = file_read(path, &n);
    char header[NF_NPY_HEADER];
    nf_npy_header(2, 6, header);
    static const double rows[] = {-2.25, -3.5, 0, 0.1, -2, 1e-310, 0.5, -INFINITY, -INFINITY, NAN, INFINITY, 1e22};
    cr_assert_eq(n, NF_NPY_HEADER + sizeof rows);
    cr_assert_arr_eq(bytes, header, sizeof header);
    cr_assert_arr_eq(bytes + NF_NPY_HEADER, rows, sizeof rows);
    free(bytes);
    static const char dictionary[] = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 6), }     ";
    cr_assert_arr_eq(header, "\x93NUMPY\x01\x00\x76\x00", 10);
    cr_assert_arr_eq(header + 10, dictionary, sizeof dictionary - 1);
    cr_assert_eq(header[NF_NPY_HEADER - 1], '\n');
    nf_npy_header(SIZE_MAX, SIZE_MAX, header); /* the longest */
    cr_assert_arr_eq(header + 10 + 50, "(18446744073709551615, 18446744073709551615), }", 47);
}

/* A locale with a decimal comma, where the system has one; the thread's locale is afterwards what it was. */
Test(draws, numbers_in_any_locale)
{
    static const char *const with_comma[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "ru_RU.UTF-8", "nl_NL.UTF-8"};
    for (size_t i = 0; i < sizeof with_comma / sizeof *with_comma; i++)
        if (setlocale(LC_ALL, with_comma[i]))
            break;
    char before[32], after[32], text[1000];
    const locale_t mine = uselocale((locale_t)0);
    snprintf(before, sizeof before, "%g", 1.5);
    nf_draws d = {.n = 2, .n_outputs = 1, .names = names, .values = (double[]){1.5, -0.25}};
    save_csv(&d, NULL);
    snprintf(after, sizeof after, "%g", 1.5);
    cr_assert_str_eq(before, after);
    cr_assert_eq(uselocale((locale_t)0), mine);
    snprintf(text, sizeof text, "%smu\n1.5\n-0.25\n", begin());
    holds(path, text);
}

/* ---- initial values ---- */

static void save_inits(const nf_draws *d, size_t chains, const size_t *which)
{
    cr_assert_eq(nf_save_inits(path, d, chains, which), NF_OK, "%s", nf_error_message());
}

Test(draws, inits)
{
    static const char *const all[] = {"mu",      "x.1.1.1", "x.2.1.1", "x.1.2.1", "x.2.2.1", "x.1.3.1",   "x.2.3.1",
                                      "theta.1", "theta.2", "S.1.1",   "S.2.1",   "beta.a",  "back\\s.1", "a.0"};
    static const double numbers[] = {0.5, 111, 211, 121, 221, 131, 231, 1, NAN, -INFINITY, INFINITY, 3, 4, 1e300};
    const nf_draws d = {.n = 1, .n_outputs = 14, .names = all, .values = numbers};
    save_inits(&d, 1, NULL);
    holds(path, "{\n  \"mu\": 0.5,\n  \"x\": [[[111], [121], [131]], [[211], [221], [231]]],\n  \"theta\": [1, "
                "\"NaN\"],\n  \"S\": [[\"-Inf\"], [\"Inf\"]],\n  \"beta.a\": 3,\n  \"back\\\\s\": [4],\n  \"a.0\": "
                "1.0000000000000001e+300\n}\n");
}

Test(draws, inits_of_chains)
{
    static const double three[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    const nf_draws d = {.n = 3, .n_outputs = 3, .names = names, .values = three};
    char folder[80], file[160];
    strcpy(folder, path);
    *strrchr(folder, '/') = 0;
    snprintf(path, sizeof path, "%s/in.its.json", folder);
    save_inits(&d, 3, (size_t[]){2, 0, 2});
    static const char *const wanted[] = {"{\n  \"mu\": 7,\n  \"theta\": [8, 9]\n}\n",
                                         "{\n  \"mu\": 1,\n  \"theta\": [2, 3]\n}\n",
                                         "{\n  \"mu\": 7,\n  \"theta\": [8, 9]\n}\n"};
    for (size_t c = 0; c < 3; c++) {
        snprintf(file, sizeof file, "%s/in.its_%zu.json", folder, c + 1);
        holds(file, wanted[c]);
    }
    save_inits(&d, 1, (size_t[]){2});
    holds(path, wanted[0]);
    cr_assert_eq(chdir(folder), 0);
    cr_assert_eq(nf_save_inits("../nothing.here/../plain", &d, 2, NULL), NF_EIO);
    cr_assert_eq(nf_save_inits("plain", &d, 2, NULL), NF_OK, "%s", nf_error_message());
    holds("plain_1", wanted[1]);
    cr_assert_eq(nf_save_inits("./.hidden", &d, 2, NULL), NF_OK, "%s", nf_error_message());
    holds("./.hidden_1", wanted[1]);
}

/* ---- refusals ---- */

static void refused(const char *const *bad, size_t n, nf_status status, const char *words)
{
    static const double numbers[32];
    expect(nf_save_inits(path, &(nf_draws){.n = 1, .n_outputs = n, .names = bad, .values = numbers}, 1, NULL), status,
           words);
}

Test(draws, names_that_are_refused)
{
    refused((const char *[]){"a.1", "a.3"}, 2, NF_EARG, "`a.3` stands where another element of `a` is wanted");
    refused((const char *[]){"a.2"}, 1, NF_EARG, "`a.2` stands where");
    refused((const char *[]){"a.1", "b", "a.2"}, 3, NF_EARG, "`a.2` stands where");
    refused((const char *[]){"S.1.1", "S.1.2", "S.2.1", "S.2.2"}, 4, NF_EARG, "`S.1.2` stands where");
    refused((const char *[]){"S.1.1", "S.2.1", "S.1.2"}, 3, NF_EARG, "`S.2.1` stands where");
    refused((const char *[]){"a.1", "a.99999999999999999999999"}, 2, NF_EARG, "stands where");
    refused((const char *[]){"a.1.1", "a.1"}, 2, NF_EARG, "`a` is there twice");
    refused((const char *[]){"a", "ab", "a.1"}, 3, NF_EARG, "`a` is there twice");
    refused((const char *[]){"a", "t:1"}, 2, NF_EUNSUPPORTED, "`t:1` is part of a tuple");
    refused((const char *[]){"a.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1"}, 1, NF_EUNSUPPORTED, "more than 16 indices");
    refused((const char *[]){"a", ""}, 2, NF_EARG, "name 2 is empty");
    refused((const char *[]){NULL}, 1, NF_EARG, "name 1 is NULL");
    refused((const char *[]){"a,b"}, 1, NF_EARG, "has a comma, a quote or a control character");
    refused((const char *[]){"a", "b", "a"}, 3, NF_EARG, "two outputs have the name `a`");
    static const double numbers[2];
    const char *const twice[] = {"a", "a"};
    expect(nf_save_draws_csv(path, &(nf_draws){.n = 1, .n_outputs = 2, .names = twice, .values = numbers}, NULL),
           NF_EARG, "nf_save_draws_csv: two outputs have the name `a`");
    const char *const right[] = {"S.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1"};
    save_inits(&(nf_draws){.n = 1, .n_outputs = 1, .names = right, .values = numbers}, 1, NULL);
    cr_assert_eq(access(path, F_OK), 0);
}

Test(draws, arguments)
{
    nf_draws d = few;
    expect(nf_save_draws_csv(NULL, &d, NULL), NF_EARG, "nf_save_draws_csv: `path` is NULL");
    expect(nf_save_draws_csv(path, NULL, NULL), NF_EARG, "nf_save_draws_csv: `draws` is NULL");
    expect(nf_save_draws_csv(path, &d, "a\rb"), NF_EARG, "control character (code 13)");
    expect(nf_save_draws_npy(NULL, &d), NF_EARG, "nf_save_draws_npy: `path` is NULL");
    expect(nf_save_inits(path, NULL, 1, NULL), NF_EARG, "nf_save_inits: `draws` is NULL");
    expect(nf_save_inits(path, &d, 0, NULL), NF_EARG, "nf_save_inits: `chains` is 0");
    expect(nf_save_inits(path, &d, 3, NULL), NF_EARG, "chain 3 begins at draw 2, but there are 2");
    expect(nf_save_inits(path, &d, 1, (size_t[]){7}), NF_EARG, "chain 1 begins at draw 7, but there are 2");
    d.names = NULL;
    expect(nf_save_draws_csv(path, &d, NULL), NF_EARG, "`names` is NULL");
    d.values = NULL;
    expect(nf_save_draws_npy(path, &d), NF_EARG, "`values` is NULL");
    d.n = 0;
    expect(nf_save_draws_npy(path, &d), NF_EARG, "0 draws of 3 outputs");
    d.n = 2;
    d.n_outputs = 0;
    expect(nf_save_draws_npy(path, &d), NF_EARG, "2 draws of 0 outputs");
    cr_assert_neq(access(path, F_OK), 0);
}

Test(draws, files_that_cannot_be_written)
{
    const nf_draws d = many();
    struct rlimit old;
    save_csv(&few, NULL);
    size_t n, again;
    unsigned char *before = file_read(path, &n);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &(struct rlimit){100000, old.rlim_max}), 0);
    expect(nf_save_draws_csv(path, &d, NULL), NF_EIO, path);
    expect(nf_save_draws_npy(path, &d), NF_EIO, path);
    setrlimit(RLIMIT_FSIZE, &old);
    unsigned char *after = file_read(path, &again);
    cr_assert(n == again && memcmp(before, after, n) == 0);
    free(before);
    free(after);
    char folder[160], nowhere[200];
    strcpy(folder, path);
    *strrchr(folder, '/') = 0;
    snprintf(nowhere, sizeof nowhere, "%s/missing/x.json", folder);
    expect(nf_save_draws_csv(nowhere, &few, NULL), NF_EIO, "missing/x.json");
    expect(nf_save_draws_npy(nowhere, &few), NF_EIO, "missing/x.json");
    expect(nf_save_inits(nowhere, &few, 2, NULL), NF_EIO, "missing/x_1.json");
    expect(nf_save_inits(folder, &few, 1, NULL), NF_EIO, "not a regular file");
}

static nf_status csv_of_few(void)
{
    return nf_save_draws_csv(path, &few, "a = 1");
}
static nf_status npy_of_few(void)
{
    return nf_save_draws_npy(path, &few);
}
static nf_status inits_of_few(void)
{
    return nf_save_inits(path, &few, 2, NULL);
}

Test(draws, failing_allocations)
{
    nf_status (*const save[])(void) = {csv_of_few, npy_of_few, inits_of_few};
    for (int which = 0; which < 3; which++) {
        size_t k = 0;
        for (;; k++) {
            const size_t before = alloc_live();
            const locale_t mine = uselocale((locale_t)0);
            fail_alloc_after(k);
            const nf_status status = save[which]();
            const bool failed = fail_alloc_off();
            cr_assert_eq(alloc_live(), before);
            cr_assert_eq(uselocale((locale_t)0), mine);
            if (!failed)
                break;
            cr_assert_eq(status, NF_ENOMEM);
        }
        cr_assert_geq(k, 2);
    }
}
