/* The counts and options of a fit, as a JSON object: {"first_step": 0, "seed": 6, ..., "rate": 0.001, ...,
   "optimizer": "adam", "slots": 2, "schedule": "cosine", "reason": "steps"}. Integers have all 64 bits and reals have
   17 digits (or are "nan", "inf", "-inf"), so that reading gives the same bits. Choices are written as names. */
#include "fit/progress.h"
#include "model/description.h"
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { TEXT = 256 };

/* Fields of nf_fitter by their names in the file: X(name, member). */
/* clang-format off */
#define INTEGERS(X)                                \
    X("first_step", options.first_step)            \
    X("seed", options.seed)                        \
    X("schedule_steps", options.schedule.steps)    \
    X("schedule_warmup", options.schedule.warmup)  \
    X("max_bad_steps", options.max_bad_steps)      \
    X("validate_every", options.validate_every)    \
    X("patience", options.patience)                \
    X("steps", now.report.steps)                   \
    X("skipped", now.report.skipped)               \
    X("rejected", now.report.rejected)             \
    X("failed", now.report.failed)                 \
    X("best_step", now.report.best_step)           \
    X("best_failed", now.report.best_failed)       \
    X("kept", now.kept)                            \
    X("moves", now.moves)                          \
    X("evaluated", now.evaluated)                  \
    X("mean_count", now.mean_count)                \
    X("bad_in_a_row", now.bad_in_a_row)            \
    X("not_better", now.not_better)                \
    X("dominated", now.dominated)                  \
    X("noted", now.noted)                          \
    X("worst_row", now.report.worst_row)
#define NUMBERS(X)                                 \
    X("momentum", rule.momentum)                   \
    X("beta1", rule.beta1)                         \
    X("beta2", rule.beta2)                         \
    X("epsilon", rule.epsilon)                     \
    X("rate", options.rate)                        \
    X("schedule_from", options.schedule.from)      \
    X("schedule_to", options.schedule.to)          \
    X("clip_norm", options.clip_norm)              \
    X("weight_decay", options.weight_decay)        \
    X("max_failed", options.max_failed)            \
    X("average", options.average)                  \
    X("loss", now.report.loss)                     \
    X("best", now.report.best)                     \
    X("accepted", now.report.accepted)             \
    X("running_loss", now.sums.loss)               \
    X("running_term_0", now.sums.term[0])          \
    X("running_term_1", now.sums.term[1])          \
    X("running_term_2", now.sums.term[2])          \
    X("running_term_3", now.sums.term[3])          \
    X("running_rejected", now.sums.rejected)       \
    X("running_failed", now.sums.failed)           \
    X("worst_log_det", now.report.worst_log_det)   \
    X("worst_loss", now.report.worst_loss)         \
    X("worst_share", now.report.worst_share)       \
    X("validation", now.validation)
/* clang-format on */

/* The default schedule is a constant here, see settle_schedule() in fitter.c. */
static const char *const schedules[] = {[NF_CONSTANT] = "constant",
                                        [NF_LINEAR] = "linear",
                                        [NF_COSINE] = "cosine",
                                        [NF_STAIRS] = "stairs",
                                        [NF_CUSTOM] = "custom"};
static const char *const reasons[] = {"steps", "callback", "patience", "not_finite"};
#define COUNT(array) (sizeof(array) / sizeof *(array))

nf_status nfi_progress_write(const nf_fitter *f, struct json_t *to)
{
    nf_writer w = {.o = f->m->o, .fields = to};
    nf_status status = NF_OK;
#define WRITE_INTEGER(name, member) \
    if (status == NF_OK)            \
        status = nf_write_integer(&w, name, f->member);
#define WRITE_NUMBER(name, member) \
    if (status == NF_OK)           \
        status = nf_write_number(&w, name, f->member);
    INTEGERS(WRITE_INTEGER)
    NUMBERS(WRITE_NUMBER)
    if (status == NF_OK) /* while a run is under way, its time is not in the report yet */
        status = nf_write_number(&w, "seconds", f->now.report.seconds + (f->running ? nfi_fit_clock() - f->start : 0));
    if (status != NF_OK)
        return status;
    const nf_stop_reason reason = f->now.report.reason;
    int bad = json_object_set_new(to, "optimizer", json_string(f->options.optimizer->name));
    bad |= json_object_set_new(to, "slots", json_integer((json_int_t)f->options.optimizer->n_slots));
    bad |= json_object_set_new(to, "schedule", json_string(schedules[f->options.schedule.kind]));
    bad |= json_object_set_new(to, "reason", json_string(reasons[reason == NF_STOP_CALLBACK ? NF_STOP_STEPS : reason]));
    return bad ? nf_error(NF_ENOMEM, "no memory for the progress, or the optimizer's name is not UTF-8") : NF_OK;
}

static bool read_choice(const json_t *from, const char *key, const char *const *names, size_t n, size_t *value)
{
    const char *text = json_string_value(json_object_get(from, key));
    for (*value = 0; text && *value < n; ++*value)
        if (names[*value] && strcmp(text, names[*value]) == 0)
            return true;
    return false;
}

static nf_status check_optimizer(const nf_fitter *f, const json_t *progress, const char *path, const char *who)
{
    const nf_optimizer_type *t = f->options.optimizer;
    const char *name = json_string_value(json_object_get(progress, "optimizer"));
    const json_int_t slots = json_integer_value(json_object_get(progress, "slots"));
    if (!name || strcmp(name, t->name) != 0 || slots != (json_int_t)t->n_slots)
        return nf_error(
            NF_EARG,
            "%s: %s: a checkpoint of the optimizer %s with %lld numbers a parameter, but the fitter's is %s "
            "with %zu",
            who, path, name ? name : "?", (long long)slots, t->name, t->n_slots);
    const char *schedule = json_string_value(json_object_get(progress, "schedule"));
    if (schedule && strcmp(schedule, schedules[NF_CUSTOM]) == 0 && f->options.schedule.kind != NF_CUSTOM)
        return nf_error(NF_EARG, "%s: %s: a checkpoint with a custom schedule, but the fitter's is %s", who, path,
                        schedules[f->options.schedule.kind]);
    return NF_OK;
}

/* Whether a running mean of counts can be one; counts are converted to integers. */
static bool is_count(double mean)
{
    return mean >= 0 && mean <= 0x1p53;
}

static nf_status read_fields(nf_fitter *f, const json_t *from)
{
    nf_reader r = {.fields = from};
    nf_status status = NF_OK;
    uint64_t value = 0;
#define READ_INTEGER(name, member)                  \
    if (status == NF_OK) {                          \
        status = nf_read_integer(&r, name, &value); \
        f->member = value;                          \
    }
#define READ_NUMBER(name, member) \
    if (status == NF_OK)          \
        status = nf_read_number(&r, name, &f->member);
    INTEGERS(READ_INTEGER)
    NUMBERS(READ_NUMBER)
    READ_NUMBER("seconds", now.report.seconds)
    size_t schedule, reason;
    if (status == NF_OK && (!read_choice(from, "schedule", schedules, COUNT(schedules), &schedule) ||
                            !read_choice(from, "reason", reasons, COUNT(reasons), &reason)))
        status = nf_error(NF_EFORMAT, "the field 'schedule' or 'reason' is missing or unknown");
    if (status != NF_OK)
        return status;
    f->options.schedule.kind = (nf_schedule_kind)schedule;
    if (schedule == NF_CONSTANT && f->options.schedule.from == 0 && f->options.schedule.to == 0)
        f->options.schedule.from = 1; /* the default, as versions before NF_SCHEDULE_DEFAULT wrote it */
    f->now.report.reason = (nf_stop_reason)reason;
    if (!is_count(f->now.sums.rejected) || !is_count(f->now.sums.failed))
        return nf_error(NF_EFORMAT, "the field 'running_rejected' or 'running_failed' is no number of samples");
    if (f->options.validate_every == 0 || f->options.max_bad_steps == 0)
        return nf_error(NF_EFORMAT, "the field 'validate_every' or 'max_bad_steps' is 0");
    status = nfi_fit_check(&f->options, "the progress");
    return status == NF_OK ? NF_OK : nf_error(NF_EFORMAT, "%s", nf_error_message());
}

nf_status nfi_progress_read(nf_fitter *f, const struct json_t *from, const char *path, const char *who)
{
    nf_status status = check_optimizer(f, from, path, who);
    if (status != NF_OK)
        return status;
    status = read_fields(f, from);
    if (status == NF_OK)
        return NF_OK;
    char why[TEXT];
    snprintf(why, sizeof why, "%s", nf_error_message());
    return nf_error(status, "%s: %s: damaged progress: %s", who, path, why);
}
