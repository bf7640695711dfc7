#include "bayes_families.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void family_row_add(family_row *row, nf_family family, const bayes_fit *f)
{
    family_cell *c = &row->cell[family];
    const nf_quality *q = &f->result.quality;
    row->has_gate = row->has_gate || f->has_gate;
    if (!f->result.model) {
        c->failed++;
        return;
    }
    c->fits++;
    c->passed += f->has_gate && f->gate.passed;
    c->elbo += q->elbo;
    c->cpu += f->cpu;
    if (q->elbo > row->best) {
        row->best = q->elbo;
        row->log_z = isfinite(f->log_z) ? f->log_z : q->log_z;
    }
}

/* The mean distance of the ELBO to ln Z with as many digits as say something; "-": gate failed, "?": a fit failed. */
static void print_distance(const family_row *row, const family_cell *c)
{
    const double below = row->log_z - c->elbo / (double)c->fits;
    if (c->fits == 0) {
        printf(" %9s ", c->failed ? "none" : "");
        return;
    }
    printf(" %9.*f%c",
           below < 1     ? 3
           : below < 100 ? 1
                         : 0,
           below,
           c->failed                              ? '?'
           : row->has_gate && c->passed < c->fits ? '-'
                                                  : ' ');
}

static void print_head(const char *what)
{
    printf("\n%-26s", what);
    for (int k = 0; k < N_FAMILIES; k++) {
        char *word = family_word((nf_family)k);
        printf(" %9s ", word);
        free(word);
    }
    putchar('\n');
}

void family_rows_print(size_t n, const family_row *row)
{
    print_head("ln Z - ELBO");
    for (size_t i = 0; i < n; i++) {
        printf("%-26s", row[i].model->name);
        for (size_t k = 0; k < N_FAMILIES; k++)
            print_distance(&row[i], &row[i].cell[k]);
        putchar('\n');
    }
    printf("-: some fit does not pass the gate. ?: some fit has failed\n");
    print_head("CPU seconds");
    for (size_t i = 0; i < n; i++) {
        printf("%-26s", row[i].model->name);
        for (size_t k = 0; k < N_FAMILIES; k++) {
            const family_cell *c = &row[i].cell[k];
            if (c->fits)
                printf(" %9.2f ", c->cpu / (double)c->fits);
            else
                printf(" %9s ", "");
        }
        putchar('\n');
    }
}
