/*
 * nes: party identification in the US national election study of 1972 (Gelman & Hill 2007, ch. 4; posteriordb).
 *
 *     party ~ N(beta_1 + beta_2 ideology + beta_3 race + beta_4 [age 2] + beta_5 [age 3] + beta_6 [age 4]
 *               + beta_7 education + beta_8 gender + beta_9 income, sigma^2),   beta and sigma > 0 flat
 *
 * [age k] is 1 in age group k of four, else 0. No prior is proper: the integral is an evidence up to a factor.
 */
#include "data.h"
#include "linear.h"
#include "bayes_models.h"
#include <stdlib.h>

enum { P = 9, GROUPS = 3, MOST_ROWS = 100000 };

static void *read(const char *folder)
{
    data_file f = data_open(folder, "posteriordb/data/nes1972.json");
    const size_t n = data_count(&f, "N", P, MOST_ROWS);
    const double *age = data_numbers(&f, "age_discrete", n), *party = data_numbers(&f, "partyid7", n);
    const double *column[P] = {NULL, data_numbers(&f, "real_ideo", n), data_numbers(&f, "race_adj", n)};
    double *group = age ? calloc(GROUPS * n, sizeof *group) : NULL;
    for (size_t k = 0; group && k < GROUPS; k++) {
        for (size_t i = 0; i < n; i++)
            group[k * n + i] = age[i] == (double)(k + 2);
        column[3 + k] = group + k * n;
    }
    column[6] = data_numbers(&f, "educ1", n);
    column[7] = data_numbers(&f, "gender", n);
    column[8] = data_numbers(&f, "income", n);
    if (data_good(&f) && !group)
        nf_error(NF_ENOMEM, "nes: no memory for %zu rows", n);
    linear *l = data_good(&f) && group ? linear_of_columns(n, P, column, party) : NULL;
    free(group);
    data_close(&f);
    return l;
}

const bayes_model bayes_nes = {
    .name = "nes",
    .posterior = "nes1972-nes",
    .about = "regression with groups, flat priors",
    .parameters = {{.name = "beta", .n = P}, {.name = "sigma", .constraint = bayes_positive}},
    .read = read,
    .log_p = linear_flat_log_p,
    .log_z = linear_flat_log_z,
};
