/**
 * @file schedule.h
 * Schedules: a number that depends on the step, for learning rates and for weights in a loss.
 */
#ifndef NFLOW_SCHEDULE_H
#define NFLOW_SCHEDULE_H
#include <nflow/base.h>
NF_BEGIN_DECLS

/** Shapes of a schedule v(t), where t is the step, counted from 0. */
typedef enum nf_schedule_kind {
    NF_SCHEDULE_DEFAULT, /**< 1; from and to must be 0, since they would not be read */
    NF_CONSTANT,         /**< from, also if that is 0 */
    NF_LINEAR,           /**< from -> to over `steps`, then to. The paper's beta_t: from 0.01, to 1, steps 9900 */
    NF_COSINE,           /**< from -> to along half a cosine over `steps`, then to */
    NF_STAIRS,           /**< from * to^floor(t / steps) */
    NF_CUSTOM            /**< call(user, t) */
} nf_schedule_kind;

/** A number that depends on the step. All zeros: the constant 1. */
typedef struct nf_schedule {
    nf_schedule_kind kind; /**< shape */
    double from;           /**< a value, see the kinds */
    double to;             /**< a value, see the kinds */
    uint64_t steps;        /**< length, see the kinds; 0 in nf_fit_options: up to the fit's last step */
    uint64_t warmup;       /**< before all that, so many steps of a linear rise, from v(0) / warmup to v(0) */
    double (*call)(void *user, uint64_t step); /**< for NF_CUSTOM */
    void *user;                                /**< passed to call */
} nf_schedule;

/** The value at step t. */
NF_API double nf_schedule_value(const nf_schedule *s, uint64_t t);

NF_END_DECLS
#endif
