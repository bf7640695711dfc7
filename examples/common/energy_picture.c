#include "energy_picture.h"
#include "cli.h"
#include "panels.h"
#include <math.h>
#include <stdlib.h>

enum { GRID = 200, POINTS = GRID * GRID };

struct picture {
    panels *table;
    size_t row, column; /* of the last panel */
};

picture *picture_new(const char *png, size_t n_rows, size_t n)
{
    if (!png)
        return NULL;
    picture *p = calloc(1, sizeof *p);
    if (!p)
        cli_fail(1, "out of memory");
    p->table = panels_new(png, n_rows, 1 + n, GRID, 4);
    p->row = SIZE_MAX;
    return p;
}

/* log p, up to a constant, to a panel whose maximum is 1 */
static void add(picture *p, const char *label, const double *log_p)
{
    double top = -INFINITY;
    for (size_t i = 0; i < POINTS; i++)
        top = fmax(top, log_p[i]);
    panels_add(p->table, p->row, p->column, label, log_p, top, 0, NULL);
}

void picture_row(picture *p, energy e)
{
    if (!p)
        return;
    static double x[2 * POINTS], log_p[POINTS];
    for (size_t i = 0; i < 2 * POINTS; i++)
        x[i] = panels_grid(p->table)[i];
    energy_log_p(&e, POINTS, 2, x, log_p, NULL, NULL);
    const char label[] = {'U', (char)('0' + e.number), 0};
    p->row++;
    p->column = 0;
    add(p, label, log_p);
}

void picture_panel(picture *p, const char *label, const nf_model *q)
{
    if (!p)
        return;
    static double log_q[POINTS];
    cli_ok(nf_log_prob(q, NULL, NULL, POINTS, panels_grid(p->table), NULL, log_q));
    p->column++;
    add(p, label, log_q);
}

void picture_finish(picture *p)
{
    if (p)
        panels_finish(p->table);
    free(p);
}
