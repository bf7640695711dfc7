/*
 * Receiver operating characteristic of a score that should be smaller for anomalies than for ordinary rows, as a
 * density is, with the standard error of its area (DeLong, DeLong & Clarke-Pearson 1988).
 */
#ifndef EXAMPLES_ROC_H
#define EXAMPLES_ROC_H
#include "estimate.h"

/* Where each row stands among those of the other kind: of_anomaly[i] is the share of the m ordinary scores above
   anomaly[i], of_ordinary[j] the share of the n anomalous scores below ordinary[j]; equal scores count one half. */
void roc_places(size_t n, const double *anomaly, size_t m, const double *ordinary, double *of_anomaly,
                double *of_ordinary);
/* The area below the curve: the probability that an anomaly has the smaller score. Of places; of differences between
   two scores' places it is the difference of the areas, whose standard error knows that both are of the same rows. */
estimate roc_area(size_t n, const double *of_anomaly, size_t m, const double *of_ordinary);
/* The share of anomalies that are found if `alarms` of the ordinary rows, a share, are allowed to be false alarms. */
double roc_found(size_t n, const double *of_anomaly, double alarms);

#endif
