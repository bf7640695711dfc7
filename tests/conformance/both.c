/* See both.h. The float build draws the inputs; the double build takes them over, so that both see the same numbers. */
#include "both.h"
#include "subject.h"

enum { POINTS = 11 };

static void put(const both_case *c, int which, nf_real *into)
{
    for (size_t i = 0; i < c->size[which]; i++)
        into[i] = (nf_real)c->array[which][i];
}

static void take(both_case *c, int which, size_t size, const nf_real *from)
{
    c->size[which] = size;
    c->array[which] = malloc((size + 1) * sizeof(double));
    cr_assert_not_null(c->array[which]);
    for (size_t i = 0; i < size; i++)
        c->array[which][i] = (double)from[i];
}

static int run_case(both_case *c, bool draw)
{
    subject s;
    const nf_direction d = (nf_direction)c->direction;
    if (!make_subject(&s, &rows[c->row], dims[c->dim], (guise)c->guise, POINTS))
        return 0;
    const size_t n = POINTS, in = n * s.rows[d], out = n * rows_out(&s, d);
    nf_real *gy = normals(101, out, 1), *g_l = normals(103, n, 1), *y = reals(out), *gx = reals(in);
    nf_real *g_ctx = reals(n * s.n_ctx), *g_theta = reals(s.n_params);
    nf_real *const input[] = {[X] = s.x[d], [CTX] = s.ctx, [THETA] = nf_model_theta(s.m), [GY] = gy, [G_L] = g_l};
    const size_t sizes[] = {[X] = in, [CTX] = n * s.n_ctx, [THETA] = s.n_params, [GY] = out, [G_L] = n};
    for (int k = 0; k < N_INPUTS; k++)
        draw ? take(c, k, sizes[k], input[k]) : put(c, k, input[k]);
    cr_assert_eq(nf_model_update(s.m, NF_EVAL), NF_OK);
    double *log_det = calloc(n, sizeof *log_det);
    run(&s, d, n, s.x[d], s.ctx, y, log_det);
    run_vjp(&s, d, gy, g_l, gx, s.n_ctx ? g_ctx : NULL, g_theta);
    take(c, Y, out, y);
    take(c, GX, in, gx);
    take(c, G_CTX, n * s.n_ctx, g_ctx);
    take(c, G_THETA, s.n_params, g_theta);
    c->size[LOG_DET] = n;
    c->array[LOG_DET] = log_det;
    free(gy), free(g_l), free(y), free(gx), free(g_ctx), free(g_theta);
    free_subject(&s);
    return 1;
}

#ifdef NF_SINGLE
int case_in_float(both_case *c, bool draw)
{
    return run_case(c, draw);
}
#else
int case_in_double(both_case *c, bool draw)
{
    return run_case(c, draw);
}
#endif

#if !defined(NF_SINGLE) || defined(ONE_PRECISION)
size_t both_n_rows(void)
{
    return N_ROWS;
}

size_t both_n_dims(void)
{
    return N_DIMS;
}

int both_n_guises(void)
{
    return N_GUISES;
}

double both_slack(const both_case *c)
{
    return rows[c->row].slack > 1 ? 3 : 1;
}

const char *both_row_name(size_t row)
{
    return rows[row].name;
}

const char *both_title(const both_case *c)
{
    const subject s = {.row = &rows[c->row], .dim = dims[c->dim], .guise = (guise)c->guise};
    return title(&s, (nf_direction)c->direction);
}
#endif
