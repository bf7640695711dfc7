/*
 * logmesquite: the weight of mesquite bushes from their sizes (Gelman & Hill 2007, ch. 4; posteriordb).
 *
 *     ln weight ~ N(beta_1 + beta_2 ln diam1 + beta_3 ln diam2 + beta_4 ln canopy height + beta_5 ln total height
 *                   + beta_6 ln density + beta_7 group, sigma^2),   beta and sigma > 0 flat
 *
 * No prior is proper: the integral is an evidence up to a factor.
 */
#include "data.h"
#include "linear.h"
#include "bayes_models.h"
#include <math.h>
#include <stdlib.h>

enum { P = 7, MOST_ROWS = 1000 };

static void *read(const char *folder)
{
    static const char *const name[P] = {"weight",       "diam1",   "diam2", "canopy_height",
                                        "total_height", "density", "group"};
    data_file f = data_open(folder, "posteriordb/data/mesquite.json");
    const size_t n = data_count(&f, "N", P, MOST_ROWS);
    double *value = data_good(&f) ? calloc(P * n, sizeof *value) : NULL; /* the weight, then columns 1 to 6 of X */
    const double *column[P] = {NULL};
    for (size_t j = 0; value && j < P; j++) {
        const double *x = data_numbers(&f, name[j], n);
        for (size_t i = 0; x && i < n; i++)
            value[j * n + i] = j < P - 1 ? log(x[i]) : x[i];
        column[j] = j ? value + j * n : NULL;
    }
    if (data_good(&f) && !value)
        nf_error(NF_ENOMEM, "logmesquite: no memory for %zu rows", n);
    linear *l = data_good(&f) && value ? linear_of_columns(n, P, column, value) : NULL;
    free(value);
    data_close(&f);
    return l;
}

const bayes_model bayes_mesquite = {
    .name = "logmesquite",
    .posterior = "mesquite-logmesquite",
    .about = "regression of logarithms, flat priors",
    .parameters = {{.name = "beta", .n = P}, {.name = "sigma", .constraint = bayes_positive}},
    .read = read,
    .log_p = linear_flat_log_p,
    .log_z = linear_flat_log_z,
};
