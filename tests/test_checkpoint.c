/* Checkpoints: a fit that goes on from one is the fit that was never interrupted, bit for bit; what is damaged or
   belongs to another fit is refused, and changes nothing; a process that is killed at any moment leaves a checkpoint
   that loads. */
#include "fail_alloc.h"
#include "fit_fixture.h"
#include "io/safetensors.h"
#include "temp_files.h"
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

static char folder[64], path[128], other[128];

static void setup(void)
{
    strcpy(folder, temp_folder());
    snprintf(path, sizeof path, "%s/checkpoint.safetensors", folder);
    snprintf(other, sizeof other, "%s/other.safetensors", folder);
}

TestSuite(checkpoint, .init = setup, .fini = temp_teardown);

/* ---- going on ---- */

static nf_fit_options everything(const fit_problem *p)
{
    return (nf_fit_options){.steps = 160,
                            .first_step = 30,
                            .seed = 0xfedcba9876543210u, /* beyond JSON's integers */
                            .threads = 1,
                            .optimizer = nf_adam(),
                            .coefficients = {.beta1 = 0.85, .beta2 = 0.997, .epsilon = 1.0 / 3e7},
                            .rate = 1.0 / 47,
                            .schedule = {.kind = NF_COSINE, .from = 1, .to = 1.0 / 7, .steps = 150, .warmup = 11},
                            .clip_norm = 1.7,
                            .validation = p->validation,
                            .validate_every = 25,
                            .patience = 50,
                            .average = 0.93};
}

/* What the caller of a fitter that loads need not repeat. */
static nf_fit_options bare(const fit_problem *p)
{
    return (nf_fit_options){.steps = 160, .threads = 2, .validation = p->validation, .rate = 7, .average = 0.2};
}

typedef struct outcome {
    fit_numbers numbers;
    nf_fit_report report;
} outcome;

static void same(const outcome *a, const outcome *b, const char *what)
{
    cr_assert(fit_same_reports(&a->report, &b->report), "%s: %d steps, loss %.17g, and %d steps, loss %.17g", what,
              (int)a->report.steps, a->report.loss, (int)b->report.steps, b->report.loss);
    cr_assert(fit_same_numbers(&a->numbers, &b->numbers), "%s", what);
}

/* `steps` steps of a fit that was never interrupted. */
static outcome uninterrupted(nf_fit_options (*options)(const fit_problem *p), uint64_t steps)
{
    fit_problem p = fit_problem_new();
    nf_fit_options o = options(&p);
    o.steps = steps;
    outcome end;
    cr_assert_eq(nf_fit(p.o, &o, &end.report), NF_OK, "%s", nf_error_message());
    end.numbers = fit_numbers_of(p.m);
    fit_problem_free(&p);
    return end;
}

/* Runs `before` steps and saves. */
static void run_and_save(nf_fit_options (*options)(const fit_problem *p), uint64_t before, const char *to)
{
    fit_problem p = fit_problem_new();
    const nf_fit_options o = options(&p);
    nf_fitter *f = nf_fitter_new(p.o, &o);
    if (before)
        cr_assert_eq(nf_fitter_run(f, before, NULL), NF_OK);
    cr_assert_eq(nf_fitter_save(f, to), NF_OK, "%s", nf_error_message());
    nf_fitter_free(f);
    fit_problem_free(&p);
}

/* Goes on from a file, with other initial parameters and options, to the end. */
static outcome go_on(nf_fit_options (*options)(const fit_problem *p), const char *from)
{
    fit_problem p = fit_problem_new();
    const nf_fit_options o = options(&p);
    cr_assert_eq(nf_model_init(p.m, 99, 0, NULL, NULL), NF_OK);
    nf_fitter *f = nf_fitter_new(p.o, &o);
    cr_assert_eq(nf_fitter_load(f, from), NF_OK, "%s", nf_error_message());
    outcome end;
    cr_assert_eq(nf_fitter_run(f, 0, &end.report), NF_OK, "%s", nf_error_message());
    end.numbers = fit_numbers_of(p.m);
    nf_fitter_free(f);
    fit_problem_free(&p);
    return end;
}

Test(checkpoint, goes_on_as_if_nothing_had_happened)
{
    const outcome should = uninterrupted(everything, 160);
    const uint64_t after[] = {0, 1, 24, 25, 26, 77, 100, 159, 160};
    for (size_t k = 0; k < sizeof after / sizeof *after; k++) {
        run_and_save(everything, after[k], path);
        const outcome is = go_on(bare, path);
        same(&is, &should, "saved and loaded");
    }
}

static nf_fit_options plain(const fit_problem *p)
{
    (void)p;
    return (nf_fit_options){.steps = 140, .threads = 1, .rate = 0.02};
}

static nf_fit_options impatient(const fit_problem *p)
{
    return (nf_fit_options){
        .steps = 300, .threads = 1, .rate = 0.2, .validation = p->validation, .validate_every = 15, .patience = 2};
}

static nf_fit_options kept_best(const fit_problem *p)
{
    return (nf_fit_options){.steps = 300,
                            .threads = 1,
                            .rate = 0.4,
                            .validation = p->validation,
                            .validate_every = 15,
                            .optimizer = nf_adamax()};
}

Test(checkpoint, of_other_fits)
{
    nf_fit_options (*const fits[])(const fit_problem *p) = {plain, impatient, kept_best};
    for (size_t k = 0; k < 3; k++) {
        const outcome should = uninterrupted(fits[k], k ? 300 : 140);
        cr_assert_eq(should.report.reason, k == 1 ? NF_STOP_PATIENCE : NF_STOP_STEPS);
        for (uint64_t after = 20; after <= 140; after += k ? 70 : 30) {
            run_and_save(fits[k], after, path);
            const outcome is = go_on(fits[k], path);
            same(&is, &should, "saved and loaded");
        }
    }
}

/* The model after loading is what a fit that ended there leaves. */
Test(checkpoint, loads_what_a_fit_leaves)
{
    uint64_t after = 90;
    outcome should;
    do { /* until the last evaluation is not the best */
        after += 15;
        should = uninterrupted(kept_best, after);
    } while (should.report.best_step == after && after < 300);
    cr_assert_lt(should.report.best_step, after);
    run_and_save(kept_best, after, path);
    fit_problem p = fit_problem_new();
    const nf_fit_options o = kept_best(&p);
    nf_fitter *f = nf_fitter_new(p.o, &o);
    cr_assert_eq(nf_fitter_load(f, path), NF_OK);
    const fit_numbers is = fit_numbers_of(p.m);
    cr_assert(fit_same_numbers(&is, &should.numbers));
    nf_fitter_free(f);
    fit_problem_free(&p);
}

/* A callback may save, in the middle of a run and just before an evaluation, and a fit may go back. */
typedef struct saver {
    nf_fitter *f;
    uint64_t at;
} saver;

static int save_at(void *user, const nf_progress *p)
{
    const saver *s = user;
    if (p->step == s->at)
        cr_assert_eq(nf_fitter_save(s->f, path), NF_OK, "%s", nf_error_message());
    return 0;
}

Test(checkpoint, saved_by_a_callback)
{
    const outcome should = uninterrupted(everything, 160);
    for (uint64_t at = 49; at <= 51; at++) {
        fit_problem p = fit_problem_new();
        saver s = {.at = at};
        nf_fit_options o = everything(&p);
        o.callback = save_at;
        o.user = &s;
        nf_fitter *f = s.f = nf_fitter_new(p.o, &o);
        outcome end;
        for (int round = 0; round < 2; round++) {
            cr_assert_eq(nf_fitter_run(f, 0, &end.report), NF_OK);
            end.numbers = fit_numbers_of(p.m);
            same(&end, &should, "one fitter, twice");
            s.at = 0;
            cr_assert_eq(nf_fitter_load(f, path), NF_OK, "%s", nf_error_message());
        }
        nf_fitter_free(f);
        fit_problem_free(&p);
        const outcome is = go_on(bare, path);
        same(&is, &should, "saved by a callback");
    }
}

static int wait_and_save(void *user, const nf_progress *p)
{
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    return save_at(user, p);
}

/* The time of a checkpoint is that of all steps in it, also if the run that made them never ended. */
Test(checkpoint, counts_the_time_of_the_run_that_is_under_way)
{
    fit_problem p = fit_problem_new();
    saver s = {.at = 7};
    nf_fit_options o = everything(&p);
    o.callback = wait_and_save;
    o.user = &s;
    s.f = nf_fitter_new(p.o, &o);
    cr_assert_eq(nf_fitter_run(s.f, 9, NULL), NF_OK, "%s", nf_error_message());
    nf_fitter_free(s.f);
    o = bare(&p);
    o.steps = NF_NONE;
    nf_fitter *f = nf_fitter_new(p.o, &o);
    nf_fit_report r;
    cr_assert_eq(nf_fitter_load(f, path), NF_OK, "%s", nf_error_message());
    cr_assert_eq(nf_fitter_run(f, 0, &r), NF_OK, "%s", nf_error_message());
    cr_assert(r.steps == 7 && r.seconds >= 7 * 0.005, "%d steps, %g s", (int)r.steps, r.seconds);
    nf_fitter_free(f);
    fit_problem_free(&p);
}

static double third(void *user, uint64_t t)
{
    ++*(int *)user;
    return t % 3 ? 1 : 0.25;
}

static int calls;
static nf_fit_options custom(const fit_problem *p)
{
    (void)p;
    nf_fit_options o = {.steps = 60, .rate = 0.02, .optimizer = nf_sgd()};
    o.schedule = (nf_schedule){.kind = NF_CUSTOM, .call = third, .user = &calls, .warmup = 40};
    return o;
}

Test(checkpoint, a_custom_schedule_is_the_callers)
{
    const outcome should = uninterrupted(custom, 60);
    run_and_save(custom, 30, path);
    calls = 0;
    const outcome is = go_on(custom, path);
    same(&is, &should, "custom");
    cr_assert_eq(calls, 30);
}

/* ---- written on the way ---- */

static size_t files_in(const char *name)
{
    size_t n = 0;
    DIR *d = opendir(name);
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n;
}

typedef struct watch {
    struct stat last;
    uint64_t changed[64];
    size_t n;
} watch;

static int look(void *user, const nf_progress *p)
{
    watch *w = user;
    struct stat now = {.st_ino = 0};
    (void)stat(path, &now); /* a new file each time: renamed onto the old one */
    if (now.st_ino != w->last.st_ino || now.st_mtim.tv_nsec != w->last.st_mtim.tv_nsec)
        w->changed[w->n++] = p->step;
    w->last = now;
    return 0;
}

Test(checkpoint, written_when_it_is_due_and_at_the_end)
{
    const uint64_t every[] = {7, 0}, seen[2][8] = {{8, 15, 22, 29, 36}, {13, 25, 37}};
    for (size_t k = 0; k < 2; k++) {
        remove(path);
        fit_problem p = fit_problem_new();
        watch w = {.n = 0};
        nf_fit_options o = {.steps = 40, .validate_every = 12, .checkpoint = path, .checkpoint_every = every[k]};
        o.callback = look;
        o.user = &w;
        cr_assert_eq(nf_fit(p.o, &o, NULL), NF_OK, "%s", nf_error_message());
        cr_assert_eq(w.n, k ? 3 : 5);
        for (size_t i = 0; i < w.n; i++)
            cr_assert_eq(w.changed[i], seen[k][i]);
        fit_problem q = fit_problem_new();
        nf_fitter *f = nf_fitter_new(q.o, &(nf_fit_options){.steps = 40});
        cr_assert_eq(nf_fitter_load(f, path), NF_OK);
        nf_fit_report r;
        cr_assert_eq(nf_fitter_run(f, 0, &r), NF_OK);
        cr_assert_eq(r.steps, 40, "the end is there, too");
        const fit_numbers a = fit_numbers_of(p.m), b = fit_numbers_of(q.m);
        cr_assert(fit_same_numbers(&a, &b));
        nf_fitter_free(f);
        fit_problem_free(&p);
        fit_problem_free(&q);
    }
    cr_assert_eq(files_in(folder), 1);
}

Test(checkpoint, that_cannot_be_written_ends_the_run)
{
    fit_problem p = fit_problem_new();
    nf_fit_report r;
    nf_fit_options o = {.steps = 40, .validate_every = 12, .checkpoint = "/nowhere/checkpoint"};
    expect(nf_fit(p.o, &o, &r), NF_EIO, "/nowhere/checkpoint");
    cr_assert_eq(r.steps, 12);
    fit_problem_free(&p);
}

/* ---- what is refused ---- */

/* Loads a file that must be refused, and sees that neither the model nor the fit has changed. */
static void refused(nf_fitter *f, nf_model *m, const char *file, nf_status status, const char *words)
{
    const fit_numbers before = fit_numbers_of(m);
    expect(nf_fitter_load(f, file), status, words);
    const fit_numbers after = fit_numbers_of(m);
    cr_assert(fit_same_numbers(&before, &after));
}

/* Writes a copy of the checkpoint with `from` replaced by as long a `to` and a right checksum. */
static void write_changed(const char *from, const char *to)
{
    size_t n;
    unsigned char *bytes = file_read(path, &n);
    unsigned char *at = memmem(bytes, n, from, strlen(from));
    cr_assert(at && strlen(from) == strlen(to), "%s", from);
    memcpy(at, to, strlen(to));
    file_write(other, bytes, n);
    nfi_container c;
    cr_assert_eq(nfi_container_open(&c, "test", other, NULL), NF_OK, "%s", nf_error_message());
    cr_assert_eq(nfi_container_read_data(&c, "test"), NF_OK, "%s", nf_error_message());
    const size_t tail = 4 * sizeof(nf_real);
    const uint64_t sum = nfi_container_sum(&c, c.n_data - tail);
    nfi_container_free(&c);
    nf_real part[4];
    for (size_t i = 0; i < 4; i++)
        part[i] = (nf_real)(sum >> 16 * i & 0xffff);
    nfi_encode(4, part, bytes + n - tail);
    file_write(other, bytes, n);
    free(bytes);
}

Test(checkpoint, of_another_fit_is_refused)
{
    const outcome should = uninterrupted(kept_best, 300);
    run_and_save(kept_best, 45, path);
    fit_problem p = fit_problem_new();
    nf_fit_options o = kept_best(&p);
    nf_fitter *f = nf_fitter_new(p.o, &o);
    cr_assert_eq(nf_fitter_run(f, 100, NULL), NF_OK);

    write_changed("\\\"type\\\":\\\"planar\\\"", "\\\"type\\\":\\\"radial\\\"");
    refused(f, p.m, other, NF_EARG, "children[1].children[0].type is \"radial\" there, but \"planar\"");
    write_changed("\\\"type\\\":\\\"affine\\\",\\\"dim_in\\\":3", "\\\"type\\\":\\\"affine\\\",\\\"dim_in\\\":7");
    refused(f, p.m, other, NF_EARG, "children[0].children[1].dim_in is 7 there, but 3");
    write_changed("\\\"optimizer\\\":\\\"adamax\\\"", "\\\"optimizer\\\":\\\"adamox\\\"");
    refused(f, p.m, other, NF_EARG, "optimizer adamox with 2 numbers a parameter, but the fitter's is adamax with 2");
    write_changed("\\\"slots\\\":2", "\\\"slots\\\":1");
    refused(f, p.m, other, NF_EARG, "adamax with 1");
    if (sizeof(nf_real) == sizeof(double))
        write_changed("\"precision\":\"double\"", "\"precision\":\"single\"");
    else
        write_changed("\"precision\":\"float\"", "\"precision\":\"quart\"");
    refused(f, p.m, other, NF_EARG,
            sizeof(nf_real) == 8 ? "in precision single, this library computes in double"
                                 : "in precision quart, this library computes in float");
    write_changed("\\\"schedule\\\":\\\"constant\\\"", "\\\"schedule\\\":\\\"custom\\\"  ");
    refused(f, p.m, other, NF_EARG, "custom schedule, but the fitter's is constant");
    /* lies with a right checksum */
    const char *lies[][3] = {{"\\\"schedule\\\":\\\"constant\\\"", "\\\"schedule\\\":\\\"konstant\\\"", "schedule"},
                             {"\\\"reason\\\":\\\"steps\\\"", "\\\"reason\\\":\\\"stops\\\"", "reason"},
                             {"\\\"validate_every\\\":15", "\\\"validate_every\\\":00", "progress"},
                             {"\\\"validate_every\\\":15", "\\\"validate_every\\\":0 ", "validate_every"},
                             {"\\\"max_bad_steps\\\":100", "\\\"max_bad_steps\\\":0  ", "max_bad_steps"},
                             {"\\\"moves\\\":45", "\\\"moves\\\":-5", "moves"},
                             {"\\\"moves\\\":45", "\\\"mooes\\\":45", "moves"},
                             {"\\\"average\\\":0.0", "\\\"average\\\":1.0", "average"},
                             {"\\\"average\\\":0.0", "\\\"average\\\":0.5", "average"},
                             {"\\\"running_failed\\\":0.0", "\\\"running_failed\\\":-7 ", "no number of samples"},
                             {"\\\"running_rejected\\\":0.0,\\\"running_failed\\\":0.0",
                              "\\\"running_rejected\\\":1e99,\\\"running_failed\\\":0 ", "no number of samples"},
                             {"\"format\":\"nflow checkpoint\"", "\"format\":\"nflow checkpainT\"", "format"},
                             {"\"format_version\":\"1\"", "\"format_version\":\"7\"", "version '7'"},
                             {"\"best.state\"", "\"best.stale\"", "best.state"}};
    for (size_t k = 0; k < sizeof lies / sizeof *lies; k++) {
        write_changed(lies[k][0], lies[k][1]);
        refused(f, p.m, other, NF_EFORMAT, lies[k][2]);
    }
    cr_assert_eq(nf_save(p.m, other), NF_OK);
    refused(f, p.m, other, NF_EFORMAT, "not a checkpoint");
    cr_assert_null(nf_load(path, NULL));
    expect(nf_error_status(), NF_EFORMAT, "not a model");
    refused(f, p.m, "/nowhere", NF_EIO, "/nowhere");

    /* and after all that it goes on */
    outcome end;
    cr_assert_eq(nf_fitter_run(f, 0, &end.report), NF_OK);
    end.numbers = fit_numbers_of(p.m);
    same(&end, &should, "after refusals");
    nf_fitter_free(f);
    fit_problem_free(&p);
}

/* Before schedules had a default of their own, it was the constant from 0 to 0. Today's constant 0 is another one. */
static nf_fit_options constant_zero(const fit_problem *p)
{
    (void)p;
    return (nf_fit_options){.steps = 60, .threads = 1, .schedule = {.kind = NF_CONSTANT}};
}

Test(checkpoint, the_default_schedule_of_earlier_versions)
{
    const char now[] = "\\\"schedule_from\\\":1.0,\\\"schedule_to\\\":1.0";
    const outcome should = uninterrupted(plain, 140);
    run_and_save(plain, 30, path);
    write_changed(now, "\\\"schedule_from\\\":0.0,\\\"schedule_to\\\":0.0");
    outcome is = go_on(plain, other);
    same(&is, &should, "an earlier version's");
    run_and_save(constant_zero, 30, path);
    is = go_on(constant_zero, path);
    const outcome still = uninterrupted(constant_zero, 60);
    same(&is, &still, "a constant 0");
}

/* Every truncation and every byte turned into another one. */
Test(checkpoint, damaged_anywhere)
{
    run_and_save(everything, 60, path);
    size_t n;
    unsigned char *bytes = file_read(path, &n);
    fit_problem p = fit_problem_new();
    const nf_fit_options o = bare(&p);
    nf_fitter *f = nf_fitter_new(p.o, &o);
    const size_t step = NFLOW_THIN ? 37 : 7;
    for (size_t length = 0; length<n; length += length> n - 20 ? 1 : step) {
        file_write(other, bytes, length);
        refused(f, p.m, other, NF_EFORMAT, other);
    }
    file_write(other, bytes, n);
    FILE *file = fopen(other, "ab");
    fputc(0, file);
    fclose(file);
    refused(f, p.m, other, NF_EFORMAT, other);
    for (size_t i = 0; i < n; i += NFLOW_THIN ? 41 : 5) {
        const unsigned char was = bytes[i];
        bytes[i] = (unsigned char)(i % 2 ? was ^ 1 << i / 6 % 8 : i % 4 ? ' ' : ~was);
        if (bytes[i] == was)
            bytes[i] ^= 4;
        file_write(other, bytes, n);
        cr_assert_eq(nf_fitter_load(f, other), NF_EFORMAT, "byte %zu of %zu: %s", i, n, nf_error_message());
        bytes[i] = was;
    }
    free(bytes);
    /* nothing is lost: the same fitter loads the whole file and goes on */
    cr_assert_eq(nf_fitter_load(f, path), NF_OK);
    outcome end;
    const outcome should = uninterrupted(everything, 160);
    cr_assert_eq(nf_fitter_run(f, 0, &end.report), NF_OK);
    end.numbers = fit_numbers_of(p.m);
    same(&end, &should, "after damage");
    nf_fitter_free(f);
    fit_problem_free(&p);
}

Test(checkpoint, failing_allocations)
{
    fit_problem p = fit_problem_new();
    const nf_fit_options o = everything(&p);
    nf_fitter *f = nf_fitter_new(p.o, &o);
    cr_assert_eq(nf_fitter_run(f, 30, NULL), NF_OK);
    const size_t before = alloc_live();
    size_t failures = 0;
    for (bool failed = true; failed; failures += failed) {
        fail_alloc_once(failures);
        nf_status status = nf_fitter_save(f, path);
        if (status == NF_OK)
            status = nf_fitter_load(f, path);
        failed = fail_alloc_off();
        cr_assert_eq(status, failed ? NF_ENOMEM : NF_OK, "%s", nf_error_message());
        cr_assert_eq(alloc_live(), before);
    }
    cr_assert_gt(failures, 10);
    cr_assert_eq(files_in(folder), 1);
    const outcome should = uninterrupted(everything, 160);
    outcome end;
    cr_assert_eq(nf_fitter_run(f, 0, &end.report), NF_OK);
    end.numbers = fit_numbers_of(p.m);
    same(&end, &should, "after failures");
    nf_fitter_free(f);
    fit_problem_free(&p);
}

/* A checkpoint takes the place of the one before: who has that open goes on reading the old one, whole. */
Test(checkpoint, replaces_the_file_at_once)
{
    static unsigned char before[1 << 20], now[1 << 20];
    run_and_save(plain, 20, path);
    FILE *old = fopen(path, "rb");
    cr_assert_not_null(old);
    setbuf(old, NULL);
    const size_t n = fread(before, 1, sizeof before, old);
    cr_assert(n > 1000 && n < sizeof before);
    run_and_save(plain, 40, path);
    rewind(old);
    cr_assert_eq(fread(now, 1, sizeof now, old), n);
    cr_assert_arr_eq(now, before, n);
    fclose(old);
    FILE *new = fopen(path, "rb");
    cr_assert_not_null(new);
    const size_t m = fread(now, 1, sizeof now, new);
    cr_assert(m != n || memcmp(now, before, n) != 0);
    fclose(new);
}

/* ---- SIGKILL ---- */

static nf_fit_options killed(const fit_problem *p)
{
    nf_fit_options o = everything(p);
    o.steps = 600;
    o.validate_every = 40;
    o.patience = 1000;
    o.checkpoint_every = 7;
    return o;
}

/* Tells the test of each step, and rests a little. */
static int tell(void *user, const nf_progress *p)
{
    (void)p;
    return write(*(int *)user, "", 1) != 1 || nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL) != 0;
}

/* A process that goes on from the checkpoint, if there is one, to the end. It shares nothing with the test but the
 * file. */
static void child(int line)
{
    fit_problem p = fit_problem_new();
    nf_fit_options o = killed(&p);
    o.checkpoint = path;
    o.callback = tell;
    o.user = &line;
    nf_fitter *f = nf_fitter_new(p.o, &o);
    nf_status status = access(path, F_OK) == 0 ? nf_fitter_load(f, path) : NF_OK;
    if (status == NF_OK)
        status = nf_fitter_run(f, 0, NULL);
    _exit(status == NF_OK ? 0 : 1);
}

/* Steps that the checkpoint has; it must load. */
static uint64_t steps_on_disk(void)
{
    if (access(path, F_OK) != 0)
        return 0;
    fit_problem p = fit_problem_new();
    const nf_fit_options o = killed(&p);
    nf_fitter *f = nf_fitter_new(p.o, &o);
    cr_assert_eq(nf_fitter_load(f, path), NF_OK, "%s", nf_error_message());
    nf_fitter_free(f);
    fit_problem_free(&p);
    nfi_container c;
    cr_assert_eq(nfi_container_open(&c, "test", path, NULL), NF_OK);
    cr_assert_eq(nfi_container_read_data(&c, "test"), NF_OK);
    const char *progress = nfi_container_metadata(&c, "progress"), *at = strstr(progress, "\"steps\":");
    cr_assert_not_null(at);
    const uint64_t steps = strtoull(at + strlen("\"steps\":"), NULL, 10);
    nfi_container_free(&c);
    return steps;
}

/* A process at work; *line is where it tells of its steps. */
static pid_t start(int *line)
{
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    const pid_t pid = fork();
    cr_assert_neq(pid, -1);
    if (pid == 0) {
        close(ends[0]);
        child(ends[1]);
    }
    close(ends[1]);
    *line = ends[0];
    return pid;
}

/* Killed after 1 to 20 steps and up to 8 ms: in a step, between steps, while a checkpoint is written. */
static void kill_at_random(uint64_t k)
{
    nf_real u[2 * 16];
    const nf_noise noise = {.seed = 20, .step = k};
    nf_noise_uniform(&noise, 2, 1, 16, u);
    int line, how;
    char step;
    const pid_t pid = start(&line);
    for (int i = 0; i < 1 + (int)(20 * u[0]); i++)
        cr_assert_eq(read(line, &step, 1), 1, "it ended by itself");
    nanosleep(&(struct timespec){.tv_nsec = (long)(8e6 * (double)u[16])}, NULL);
    cr_assert_eq(kill(pid, SIGKILL), 0);
    cr_assert_eq(waitpid(pid, &how, 0), pid);
    cr_assert(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL, "it ended by itself, with %d", how);
    close(line);
}

Test(checkpoint, survives_kill)
{
    enum { KILLS = 20 };
    uint64_t steps = 0;
    size_t went_on = 0;
    for (uint64_t k = 0; k < KILLS; k++) {
        kill_at_random(k);
        const uint64_t now = steps_on_disk();
        cr_assert_geq(now, steps, "a checkpoint was lost");
        went_on += now > steps;
        steps = now;
    }
    cr_assert(went_on > KILLS / 3 && steps < 600, "%zu, %d steps", went_on, (int)steps);
    int line, how;
    char step[64];
    const pid_t last = start(&line);
    while (read(line, step, sizeof step) > 0)
        ;
    cr_assert_eq(waitpid(last, &how, 0), last);
    cr_assert(WIFEXITED(how) && WEXITSTATUS(how) == 0, "%d", how);
    close(line);
    const outcome should = uninterrupted(killed, 600), is = go_on(killed, path);
    same(&is, &should, "killed");
    cr_assert_eq(is.report.steps, 600);
    cr_assert_eq(files_in(folder), 1, "what killed processes were writing lies about");
}
