/**
 * @file importance.h
 * Importance sampling: how good are draws from q as draws from p, and what do they say about p?
 *
 * The draws x_1 .. x_n come from q. Their log ratios are log p(x_i) - log q(x_i), where p need not be normalised.
 * Everything here is in double, in both libraries, and runs in the calling thread.
 *
 * What a log ratio may be: a finite number; -infinity, which is a weight of 0 (the target rejects the draw); NaN or
 * +infinity, which is no weight at all. A draw without a weight is left out: it is counted, and the results are those
 * of the other draws.
 */
#ifndef NFLOW_IMPORTANCE_H
#define NFLOW_IMPORTANCE_H
#include <nflow/noise.h>
NF_BEGIN_DECLS

/* ---- weights ---- */

/** What nf_psis() finds. n draws are not left out, m of them have a finite log ratio; w_1 .. w_n are smoothed weights.
 */
typedef struct nf_psis_report {
    /**
     * The shape k of the generalised Pareto distribution of the largest weights. Means with these weights have a
     * variance only if k < 1/2, and can be trusted in practice if k is below k_limit.
     *
     * - +infinity: k cannot be estimated, or a ratio is +infinity. Nothing is known that speaks for the weights. k
     *   cannot be estimated if the tail has less than 5 draws, as it has if m is below 21, or if the ratios lie so far
     *   apart that a quarter of the tail's weights are 0 in double beside the largest.
     * - -infinity: the tail's weights are all equal, so that there is no tail to speak of. All weights are equal if q
     *   is p itself.
     */
    double k_hat;
    double k_limit;  /**< 1 - 1 / log10(m), but at most 0.7: few draws do not show a larger k */
    size_t tail;     /**< the number of largest weights that were fitted and smoothed; 0: none were */
    size_t finite;   /**< draws with a finite log ratio, m */
    size_t zero;     /**< draws with the log ratio -infinity; n = finite + zero */
    size_t left_out; /**< draws with the log ratio NaN or +infinity; they are no part of n */
    size_t infinite; /**< those of them with +infinity */
    /**
     * The log of the mean of w: an estimate of log Z, the log evidence, where p's integral is Z. -infinity if no ratio
     * is finite.
     */
    double log_mean;
    /** Its standard error by the delta method, sd(w) / (mean(w) sqrt(n)). Too small if k_hat is not below k_limit. */
    double log_mean_se;
    double log_mean_raw; /**< the same mean of the weights before they are smoothed */
    double ess;          /**< effective sample size: (sum w)^2 / sum w^2; 0 if no ratio is finite */
} nf_psis_report;

/**
 * Pareto-smoothed importance sampling (Vehtari, Simpson, Gelman, Yao, Gabry: Pareto smoothed importance sampling, JMLR
 * 25, 2024). The ceil(min(m / 5, 3 sqrt(m))) largest of m weights are replaced by quantiles of the generalised Pareto
 * distribution that fits them (Zhang, Stephens 2009, with the prior of the former on k), but none becomes larger than
 * the largest raw weight. k_hat and the weights are those of psis(log_ratios, r_eff = NA) of R's package loo, which
 * takes finite ratios only.
 *
 * Where a quarter of the tail or more are equal to the largest ratio below it, loo has no answer: then the draws above
 * these ties are the tail. Of equal ratios those of later draws count as larger. The results do not change if a
 * constant is added to all ratios, but for rounding and for log_mean, which grows by it.
 *
 * A report is made of any ratios, so that NaN, infinities and ties are no errors.
 * @param log_ratio  [n], n >= 1
 * @param log_weight [n], written: the logs of the smoothed weights, divided by their sum, so that the sum of exp() is
 *                   1; -infinity for draws of weight 0, and for those that are left out. It may be log_ratio's own
 *                   array. NULL: not wanted
 * @param report     written
 * @return NF_EARG (NULL, n is 0), NF_ENOMEM.
 */
NF_API NF_CHECKED nf_status nf_psis(size_t n, const double *log_ratio, double *log_weight, nf_psis_report *report);

/**
 * The effective sample size of weights (Kish): (sum w)^2 / sum w^2, which is n if all are equal and 1 if one has all.
 * @param log_weight [n], the logs of the weights, which need not be normalised. NaN and +infinity are left out.
 * @return 0 if no log weight is finite, if n is 0 or log_weight NULL.
 */
NF_API double nf_effective_size(size_t n, const double *log_weight);

/** What nf_importance_bound() finds. */
typedef struct nf_bound {
    double mean;   /**< the bound; -infinity if no ratio is finite, NaN if there is no group */
    double se;     /**< its standard error, the standard deviation of groups / sqrt(groups); NaN if groups is below 2 */
    size_t groups; /**< groups of `draws` draws; those that are left over are not used */
    size_t rejected; /**< draws with the log ratio -infinity */
    size_t left_out; /**< draws with the log ratio NaN or +infinity */
} nf_bound;

/**
 * The importance-weighted bound on the log evidence (Burda, Grosse, Salakhutdinov 2016): the mean over groups of
 * `draws` draws of log (mean of p(x) / q(x) in the group). With draws = 1 it is the ELBO. It grows with `draws`
 * towards log Z. The groups are consecutive draws.
 *
 * Rejected draws (log ratio -infinity) are treated as nf_elbo() does: they are taken out before groups are made, and
 * the log of the share of the others is added, so that this is the bound for q restricted to where p is not 0.
 * @param log_ratio [n]
 * @param draws     draws of a group, at least 1 and at most n
 * @return NF_EARG (NULL, n is 0, a group that is empty or larger than n).
 */
NF_API NF_CHECKED nf_status nf_importance_bound(size_t n, const double *log_ratio, size_t draws, nf_bound *bound);

/** How nf_resample() chooses. W_i is draw i's weight, divided by the sum of all. */
typedef enum nf_resampling {
    /**
     * One random number for all: draw i comes floor(m W_i) or ceil(m W_i) times among m. This has the least noise, so
     * it is the default. The result is shuffled, so that any part of it is representative, too; but its draws are not
     * independent of each other.
     */
    NF_RESAMPLE_SYSTEMATIC,
    NF_RESAMPLE_MULTINOMIAL, /**< each of the m is draw i with probability W_i, independently of the others */
    /**
     * No draw comes twice: each is chosen among those that are left, with probabilities in proportion to their weights.
     * It is for starting points of chains, which should differ. With m near n the result is nearer to q than to p.
     */
    NF_RESAMPLE_DISTINCT
} nf_resampling;

/**
 * Chooses m of n draws by their weights. With the weights of nf_psis() the chosen draws, which all count alike, are
 * approximately draws from p (if k_hat allows it).
 * @param log_weight [n], logs of weights, which need not be normalised; NaN and +infinity count as weight 0
 * @param noise      names the random numbers: the same name gives the same choice. Its `column` is not used
 * @param m          how many, at least 1
 * @param index      [m], written: numbers of draws, below n
 * @return NF_EARG (NULL, n or m is 0, an unknown `how`, no weight above 0; with NF_RESAMPLE_DISTINCT less than m
 * weights above 0), NF_ENOMEM.
 */
NF_API NF_CHECKED nf_status nf_resample(size_t n, const double *log_weight, nf_resampling how, const nf_noise *noise,
                                        size_t m, size_t *index);

/* ---- summaries ---- */

enum { NF_QUANTILES = 5 /**< quantiles of a summary: 5, 25, 50, 75 and 95 % */ };

/**
 * One parameter in numbers, with Monte-Carlo standard errors. W_i is draw i's weight, divided by the sum over all draws
 * that count; without weights it is 1 / n. Formulas are those of self-normalised importance sampling, and with equal
 * weights those of independent draws. The errors know nothing of how far q is from p where there are no draws. Fields
 * that cannot be computed are NaN.
 */
typedef struct nf_summary {
    size_t n;          /**< draws that count: the value is finite, and the weight above 0 */
    size_t left_out;   /**< draws with a weight above 0 (or without weights) whose value is infinite or NaN */
    double ess;        /**< effective sample size of the draws that count: 1 / sum W_i^2 */
    double mean;       /**< m = sum W_i x_i */
    double mean_error; /**< sqrt(sum W_i^2 (x_i - m)^2 / (1 - sum W_i^2)), which is sd / sqrt(n) for equal weights */
    /** sqrt(v), v = sum W_i (x_i - m)^2 / (1 - sum W_i^2). NaN where only one draw counts. */
    double sd;
    double sd_error; /**< sqrt(sum W_i^2 ((x_i - m)^2 - v)^2) / (2 sd); 0 where sd is 0 */
    /**
     * The quantile at p is the sorted draws' value at the share p, where draw i stands at W_1 + .. + W_(i-1) + W_i / 2,
     * and values in between are interpolated (R's type 5 for equal weights). The first and the last draw are the
     * values for all smaller and larger p.
     */
    double quantile[NF_QUANTILES];
    /**
     * (Q(p + e) - Q(p - e)) / 2, where Q is the quantile function, and e = sqrt(sum W_i^2 (1{x_i <= Q(p)} - p)^2) the
     * standard error of the share of draws below the quantile (Woodruff 1952).
     */
    double quantile_error[NF_QUANTILES];
    double min; /**< the least value that counts */
    double max; /**< the largest */
    /**
     * Hill's estimate of the index a of the heavier tail: P(|x - median| > t) falls like t^-a, so that moments of order
     * a and above do not exist. For each tail a is 1 / the weighted mean of log((x_i - median) / (u - median)) over the
     * draws beyond u. The tail begins at u such that the share min(1/20, 3 / sqrt(ess)) of the weight, rounded up to
     * whole draws, is beyond it. Of 10 000 draws these are 300, and the relative standard error is about
     * 1 / sqrt(300). Light tails have a large index: for 10 000 draws of a normal it is about 5. +infinity where the
     * draws of a tail are all equal. A tail is left out if it has less than 5 draws (as of less than 100 draws in all),
     * or if it begins at the median; NaN if both are left out.
     */
    double tail_index;
    /**
     * tail_index <= 2: the draws look like those of a distribution without variance. sd and the errors of mean and sd
     * say nothing then, and mean says little; the quantiles hold.
     */
    bool no_variance;
} nf_summary;

/**
 * Summarises one parameter, for example a column of an array of draws [n x stride].
 * @param stride value[i x stride] is the parameter of draw i; at least 1
 * @param weight [n], finite and >= 0; they are divided by their sum. NULL: all equal
 * @param s      written. If no draw counts, n is 0 and all numbers are NaN, which is no error
 * @return NF_EARG (NULL, n or stride is 0, a weight that is negative, infinite or NaN: the message has its number),
 * NF_ENOMEM.
 */
NF_API NF_CHECKED nf_status nf_summarise(size_t n, size_t stride, const double *value, const double *weight,
                                         nf_summary *s);

NF_END_DECLS
#endif
