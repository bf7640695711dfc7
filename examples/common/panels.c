#include "panels.h"
#include "cli.h"
#include "output.h"
#include <math.h>
#include <stdlib.h>

typedef struct panel {
    char label[32];
    float *density, *dots; /* [pixels^2], [n_dots x 2] in pixels; NULL density: empty */
    size_t n_dots;
} panel;

struct panels {
    const char *png;
    size_t n_rows, n_columns, pixels;
    double half_width;
    nf_real *grid;
    panel *panel; /* row by row */
};

static void *allocate(size_t n, size_t size)
{
    void *p = calloc(n, size);
    if (!p)
        cli_fail(1, "out of memory");
    return p;
}

panels *panels_new(const char *png, size_t n_rows, size_t n_columns, size_t pixels, double half_width)
{
    if (!png)
        return NULL;
    panels *p = allocate(1, sizeof *p);
    *p = (panels){.png = png, .n_rows = n_rows, .n_columns = n_columns, .pixels = pixels, .half_width = half_width};
    p->panel = allocate(n_rows * n_columns, sizeof *p->panel);
    p->grid = allocate(2 * panels_points(p), sizeof *p->grid);
    for (size_t i = 0; i < panels_points(p); i++) {
        p->grid[2 * i] = NF_R(half_width * ((double)(2 * (i % pixels) + 1) / (double)pixels - 1));
        p->grid[2 * i + 1] = NF_R(half_width * ((double)(2 * (i / pixels) + 1) / (double)pixels - 1));
    }
    return p;
}

size_t panels_points(const panels *p)
{
    return p ? p->pixels * p->pixels : 0;
}

const nf_real *panels_grid(const panels *p)
{
    return p ? p->grid : NULL;
}

void panels_add(panels *p, size_t row, size_t column, const char *label, const double *log_p, double top, size_t n,
                const nf_real *x)
{
    if (!p)
        return;
    panel *q = &p->panel[row * p->n_columns + column];
    snprintf(q->label, sizeof q->label, "%s", label);
    q->density = allocate(panels_points(p), sizeof *q->density);
    for (size_t i = 0; i < panels_points(p); i++)
        q->density[i] = (float)exp(fmin(log_p[i] - top, 0));
    q->dots = allocate(n + 1, 2 * sizeof *q->dots);
    for (size_t i = 0; i < n; i++) {
        const double a = x[2 * i] / p->half_width, b = x[2 * i + 1] / p->half_width;
        if (fabs(a) < 1 && fabs(b) < 1) {
            q->dots[2 * q->n_dots] = (float)(0.5 * (double)p->pixels * (a + 1) - 0.5);
            q->dots[2 * q->n_dots++ + 1] = (float)(0.5 * (double)p->pixels * (b + 1) - 0.5);
        }
    }
}

static void draw(FILE *plot, const panels *p, const panel *q)
{
    if (!q->density) {
        fprintf(plot, "set multiplot next\n");
        return;
    }
    fprintf(plot, "set label 1 \"%s\" at graph 0.05,0.93 textcolor rgb 'white' font ',%d' front\n", q->label,
            p->pixels < 160 ? 8 : 10);
    fprintf(plot, "plot '-' binary array=(%zu,%zu) format='%%float32' with image", p->pixels, p->pixels);
    if (q->n_dots)
        fprintf(plot, ", '-' binary record=%zu format='%%float32%%float32' using 1:2 with dots lc rgb '#60ffffff'",
                q->n_dots);
    fprintf(plot, "\n");
    fwrite(q->density, sizeof(float), panels_points(p), plot);
    fwrite(q->dots, 2 * sizeof(float), q->n_dots, plot);
}

void panels_finish(panels *p)
{
    if (!p)
        return;
    FILE *plot = plot_open(p->png, (int)(p->pixels * p->n_columns), (int)(p->pixels * p->n_rows));
    fprintf(plot, "set multiplot layout %zu,%zu margins 0.005,0.995,0.005,0.995 spacing 0.01,0.01\n", p->n_rows,
            p->n_columns);
    fprintf(
        plot,
        "unset key; unset colorbox; unset tics; unset border; set cbrange [0:1]\n"
        "set palette maxcolors 64 defined (0 '#000004', 0.25 '#51127c', 0.5 '#b73779', 0.75 '#fc8961', 1 '#fcfdbf')\n"
        "set xrange [-0.5:%zu.5]; set yrange [-0.5:%zu.5]\n",
        p->pixels - 1, p->pixels - 1);
    for (size_t i = 0; i < p->n_rows * p->n_columns; i++) {
        draw(plot, p, &p->panel[i]);
        free(p->panel[i].density);
        free(p->panel[i].dots);
    }
    fprintf(plot, "unset multiplot\n");
    plot_close(plot);
    free(p->panel);
    free(p->grid);
    free(p);
}
