/* The verdict on a posterior, and its reason in plain words. nf_judge() says what the numbers are. */
#include "vi/judge.h"
#include <math.h>
#include <nflow/target.h>
#include <stdio.h>

/* What draws may be off by, and half of the outputs: below the 0.15 and 0.05 at which posteriors count as wrong, since
   what weights say has errors of its own. */
static const double WORST = 0.1, HALF = 0.04, GAP = 0.1; /* GAP: nats between the ELBO and the log evidence */
enum { FEW = 100 /* effective draws */ };

/* Weighted draws are draws of the target. */
static bool weights_hold(const nf_quality *q)
{
    return q->k_hat < q->k_limit && q->ess >= FEW && !q->missed;
}

static bool nothing_moves(const nf_quality *q)
{
    return q->log_z - q->elbo < GAP && q->mean_shift < WORST && q->sd_shift < WORST && q->quantile_shift < WORST &&
           q->median_mean_shift < HALF && q->median_sd_shift < HALF;
}

#define SAY(...) snprintf(q->why, sizeof q->why, __VA_ARGS__)

static void explain_distrust(nf_quality *q)
{
    if (q->rejected == q->n)
        SAY("the target rejects every draw: look at its support and constraints");
    else if (q->missed)
        SAY("the target has another mode, with mass that the draws do not have: fit each mode on its own, or take a "
            "mixture or a longer ladder");
    else if (!(q->k_hat < q->k_limit))
        SAY("the importance weights have a tail that is too heavy (k-hat %.2f, at most %.2f): the posterior is too "
            "narrow or "
            "of the wrong shape somewhere; try more rungs, other coordinates (non-centred), or other constraints",
            q->k_hat, q->k_limit);
    else
        SAY("the weights leave %.0f effective draws of %zu: the posterior is of the wrong shape; try more rungs or "
            "more "
            "draws",
            q->ess, q->n);
}

void nfi_judge_verdict(nf_quality *q, const nf_target *t)
{
    const char *name = nf_target_output_name(t, q->worst_output);
    if (!weights_hold(q)) {
        q->verdict = NF_DO_NOT_TRUST;
        explain_distrust(q);
    } else if (nothing_moves(q)) {
        q->verdict = NF_TRUST;
        SAY("importance weights change nothing: means move by at most %.3f deviations, deviations by at most %.1f %% "
            "(k-hat "
            "%.2f)",
            q->mean_shift, 100 * q->sd_shift, q->k_hat);
    } else {
        q->verdict = NF_USE_WEIGHTS;
        SAY("the weights are good (k-hat %.2f), and they move results, most of all those of %s: use weighted or "
            "resampled "
            "draws, or more rungs",
            q->k_hat, name ? name : "?");
    }
}

void nfi_judge_no_fit(nf_quality *q, const char *message)
{
    *q = (nf_quality){.elbo = NAN,
                      .elbo_error = NAN,
                      .log_z = NAN,
                      .log_z_error = NAN,
                      .k_hat = INFINITY,
                      .verdict = NF_DO_NOT_TRUST};
    SAY("the fit has ended without a posterior: %s", message);
}

const char *nf_verdict_text(nf_verdict verdict)
{
    static const char *const text[] = {
        [NF_TRUST] = "trust", [NF_USE_WEIGHTS] = "use weights", [NF_DO_NOT_TRUST] = "do not trust"};
    return (unsigned)verdict < sizeof text / sizeof *text ? text[verdict] : NULL;
}
