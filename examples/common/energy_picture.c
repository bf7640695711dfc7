#include "energy_picture.h"
#include "cli.h"
#include "output.h"
#include <math.h>
#include <stdlib.h>

enum { GRID = 160, POINTS = GRID * GRID, PANEL = 200, MAX_COLUMNS = 33, MAX_PANELS = N_ENERGIES * MAX_COLUMNS };
static const double half_width = 4;

struct picture {
    const char *png;
    size_t n_columns;
    size_t n_rows, n_panels; /* so far */
    char label[MAX_PANELS][32];
    size_t place[MAX_PANELS]; /* row * n_columns + column */
    float *density[MAX_PANELS];
    double x[2 * POINTS];
};

picture *picture_new(const char *png, size_t n)
{
    if (!png)
        return NULL;
    picture *p = calloc(1, sizeof *p);
    if (!p)
        cli_fail(1, "out of memory");
    p->png = png;
    p->n_columns = 1 + n;
    for (size_t i = 0; i < POINTS; i++) {
        p->x[2 * i] = half_width * ((double)(2 * (i % GRID) + 1) / GRID - 1);
        p->x[2 * i + 1] = half_width * ((double)(2 * (i / GRID) + 1) / GRID - 1);
    }
    return p;
}

/* log p, up to a constant, to a panel whose maximum is 1 */
static void add(picture *p, size_t place, const char *label, const double *log_p)
{
    float *density = malloc(POINTS * sizeof *density);
    if (!density)
        cli_fail(1, "out of memory");
    double top = -INFINITY;
    for (size_t i = 0; i < POINTS; i++)
        top = fmax(top, log_p[i]);
    for (size_t i = 0; i < POINTS; i++)
        density[i] = (float)exp(log_p[i] - top);
    p->place[p->n_panels] = place;
    snprintf(p->label[p->n_panels], sizeof p->label[0], "%s", label);
    p->density[p->n_panels++] = density;
}

void picture_row(picture *p, energy e)
{
    if (!p)
        return;
    static double log_p[POINTS];
    energy_log_p(&e, POINTS, 2, p->x, log_p, NULL, NULL);
    const char label[] = {'U', (char)('0' + e.number), 0};
    add(p, p->n_columns * p->n_rows++, label, log_p);
}

void picture_panel(picture *p, const char *label, const nf_model *q)
{
    if (!p)
        return;
    static nf_real x[2 * POINTS];
    static double log_q[POINTS];
    for (size_t i = 0; i < 2 * POINTS; i++)
        x[i] = NF_R(p->x[i]);
    cli_ok(nf_log_prob(q, NULL, NULL, POINTS, x, NULL, log_q));
    add(p, p->place[p->n_panels - 1] + 1, label, log_q);
}

void picture_finish(picture *p)
{
    if (!p)
        return;
    FILE *plot = plot_open(p->png, PANEL * (int)p->n_columns, PANEL * (int)p->n_rows);
    fprintf(plot, "set multiplot layout %zu,%zu margins 0.005,0.995,0.005,0.995 spacing 0.01,0.01\n", p->n_rows,
            p->n_columns);
    fprintf(plot,
            "unset key; unset colorbox; unset tics; unset border; set cbrange [0:1]\n"
            "set palette defined (0 '#000004', 0.25 '#51127c', 0.5 '#b73779', 0.75 '#fc8961', 1 '#fcfdbf')\n"
            "set xrange [-0.5:%d.5]; set yrange [-0.5:%d.5]\n",
            GRID - 1, GRID - 1);
    for (size_t i = 0, k = 0; i < p->n_rows * p->n_columns; i++) {
        if (k == p->n_panels || p->place[k] != i) { /* interrupted before it was fitted */
            fprintf(plot, "set multiplot next\n");
            continue;
        }
        fprintf(plot, "set label 1 '%s' at graph 0.05,0.93 textcolor rgb 'white' front\n", p->label[k]);
        fprintf(plot, "plot '-' binary array=(%d,%d) format='%%float32' with image\n", GRID, GRID);
        fwrite(p->density[k], sizeof(float), POINTS, plot);
        free(p->density[k++]);
    }
    fprintf(plot, "unset multiplot\n");
    plot_close(plot);
    free(p);
}
