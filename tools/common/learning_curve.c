#include "learning_curve.h"
#include "cli.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void keep(learning_curve *c, learning_point p)
{
    if (c->n == c->room) {
        c->room = 2 * c->room + 64;
        c->point = realloc(c->point, c->room * sizeof *c->point);
        if (!c->point)
            cli_fail(1, "out of memory");
    }
    c->point[c->n++] = p;
}

/* Writes the points from number `first` on. */
static void put(const learning_curve *c, size_t first, const char *mode)
{
    FILE *file = fopen(c->path, mode);
    if (file && c->title && *mode == 'w')
        fprintf(file, "# %s\n", c->title);
    for (size_t i = first; file && i < c->n; i++) {
        const learning_point *p = &c->point[i];
        fprintf(file, "%" PRIu64 " %.3f %.17g %.17g\n", p->step, p->seconds, p->training, p->validation);
    }
    if (!file || ferror(file) || fclose(file))
        cli_fail(1, "cannot write %s: %s", c->path, strerror(errno));
}

/* The first line must be the title. */
static void check_title(FILE *file, const char *path, const char *title)
{
    char line[1024] = "";
    if (!fgets(line, sizeof line, file))
        return;
    line[strcspn(line, "\n")] = 0;
    if (strncmp(line, "# ", 2) != 0 || strcmp(line + 2, title) != 0)
        cli_fail(1, "%s is of another fit (%s, not %s)", path, line + (line[0] == '#' ? 2 : 0), title);
}

void learning_curve_begin(learning_curve *c, const char *path, uint64_t step, const char *title)
{
    *c = (learning_curve){.path = path, .title = title};
    FILE *file = step ? fopen(path, "r") : NULL;
    learning_point p;
    if (file && title)
        check_title(file, path, title);
    while (file && fscanf(file, "%" SCNu64 " %lf %lf %lf", &p.step, &p.seconds, &p.training, &p.validation) == 4)
        if (p.step <= step)
            keep(c, p);
    if (file)
        fclose(file);
    put(c, 0, "w");
}

void learning_curve_add(learning_curve *c, learning_point p)
{
    keep(c, p);
    put(c, c->n - 1, "a");
}

void learning_curve_write(const learning_curve *c, js_file *j, const char *name)
{
    js_begin(j, name, '[');
    for (size_t i = 0; i < c->n; i++) {
        js_begin(j, NULL, '{');
        js_integer(j, "step", c->point[i].step);
        js_number(j, "seconds", c->point[i].seconds);
        js_number(j, "training", c->point[i].training);
        js_number(j, "validation", c->point[i].validation);
        js_end(j);
    }
    js_end(j);
}

void learning_curve_draw(const learning_curve *c, const char *png, const char *y)
{
    if (c->n < 2)
        return;
    FILE *p = plot_open(png, 720, 420);
    /* The first points are far from the others: the picture's heights are those after an eighth of them. */
    double least = INFINITY, most = -INFINITY;
    for (size_t i = c->n / 8; i < c->n; i++) {
        least = fmin(least, c->point[i].validation);
        most = fmax(most, c->point[i].validation);
    }
    if (most > least)
        fprintf(p, "set yrange [%g:%g]\n", least - 0.05 * (most - least), most + 0.05 * (most - least));
    const bool timed = c->point[c->n - 1].seconds > 0;
    fprintf(p,
            "set xlabel '%s'\nset ylabel '%s'\nset key %s right\nset grid\n"
            "plot '-' using 1:2 with lines lw 2 title 'training, running mean', "
            "'-' using 1:3 with linespoints lw 2 pt 7 ps 0.4 title 'validation'\n",
            timed ? "minutes of training" : "steps of training", y,
            c->point[c->n - 1].validation > c->point[0].validation ? "bottom" : "top");
    for (int twice = 0; twice < 2; twice++) {
        for (size_t i = 0; i < c->n; i++)
            fprintf(p, "%g %g %g\n", timed ? c->point[i].seconds / 60 : (double)c->point[i].step, c->point[i].training,
                    c->point[i].validation);
        fputs("e\n", p);
    }
    plot_close(p);
}

void learning_curve_free(learning_curve *c)
{
    free(c->point);
    *c = (learning_curve){0};
}
