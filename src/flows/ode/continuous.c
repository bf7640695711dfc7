/* Continuous flows as objects: dz/dt = f(z, t, context), log-det = the integral of tr(df/dz) (Grathwohl et al. 2019,
   FFJORD). Forward goes from t = 0 to T, the inverse from T to 0; both are one solve of (z, l), in training with the
   penalty (field.h), which does not choose steps. Gradients are in through_steps.c and adjoint.c. J^-T of a direction
   is J^T of the other one, whose steps are made for it. */
#include "base/memory.h"
#include "flows/compose.h"
#include "flows/ode/record.h"
#include "flows/types.h"
#include "object/options.h"
#include <string.h>

/* A solve that may be recorded. */
typedef struct solve {
    nfi_field field;
    nfi_recorder recorder;
} solve;

static nf_status derivatives(const nfi_ode *o, const nf_real *u, bool quadrature, nf_real *k)
{
    solve *w = o->user;
    return nfi_recorder_evaluate(&w->recorder, &w->field, o, u, quadrature, k);
}

static nf_status record_step(const nfi_ode *o, const nf_real *points, const nf_real *h)
{
    solve *w = o->user;
    return nfi_recorder_step(&w->recorder, o, points, h);
}

/* y = where x goes; log_det NULL: no trace is computed. Records the steps on `tape`, unless that is NULL. */
static nf_status run(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                     double *log_det, nf_arena *tape, nfi_ode_record **last)
{
    const nfi_continuous *c = nf_self(o);
    const size_t ld = p->ld, size = o->own.dim_in * ld;
    const nf_mark mark = nf_arena_mark(p->scratch), begin = tape ? nf_arena_mark(tape) : mark;
    nf_real *u = nf_arena_reals(p->scratch, o->own.dim_in + 1, ld), *l = nf_arena_reals(p->scratch, 2, ld);
    solve w;
    nfi_ode ode = nfi_continuous_ode(o, p, d);
    ode.rows = o->own.dim_in + 1;
    ode.quadrature = log_det != NULL;
    ode.shared = p->mode == NF_TRAIN && ode.rule->adaptive;
    ode.f = derivatives;
    ode.step = tape ? record_step : NULL;
    ode.user = &w;
    nf_status status = u && l ? nfi_field_begin(o, p, d, &w.field) : NF_ENOMEM;
    ode.further = status == NF_OK && w.field.has_penalty && p->penalty ? 1 : 0;
    if (status == NF_OK) {
        nfi_recorder_begin(&w.field, &ode, tape, &w.recorder);
        memcpy(u, x, size * sizeof *u);
        status = nfi_continuous_solve(c, &ode, u, l);
    }
    if (status == NF_OK && ode.shared && ode.failed) { /* so that samples fail alone */
        if (tape)
            nf_arena_rewind(tape, begin);
        ode.shared = false;
        nfi_recorder_begin(&w.field, &ode, tape, &w.recorder);
        memcpy(u, x, size * sizeof *u);
        status = nfi_continuous_solve(c, &ode, u, l);
    }
    if (status == NF_OK)
        memcpy(y, u, size * sizeof *y);
    for (size_t s = 0; s < ld && log_det && status == NF_OK; s++)
        log_det[s] += (double)l[s];
    for (size_t s = 0; s < ld && ode.further && status == NF_OK; s++)
        p->penalty[s] += (double)l[ld + s];
    if (last)
        *last = w.recorder.last;
    nf_arena_rewind(p->scratch, mark);
    return status;
}

static nf_status apply(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, nf_real *y,
                       double *log_det, void **saved)
{
    const nfi_continuous *c = nf_self(o);
    if (!p->tape || c->options.gradient == NF_ADJOINT)
        return run(o, d, p, x, y, log_det, NULL, NULL);
    nfi_ode_record *last = NULL;
    const nf_status status = run(o, d, p, x, y, log_det, p->tape, &last);
    *saved = last;
    return status;
}

static nf_status vjp(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                     void *saved, const nf_real *gy, const nf_real *g_log_det, nf_real *gx, const nf_grad *g)
{
    (void)x;
    const nfi_continuous *c = nf_self(o);
    return c->options.gradient == NF_ADJOINT ? nfi_adjoint(o, d, p, y, gy, g_log_det, gx, g)
                                             : nfi_through_steps(o, d, p, saved, gy, g_log_det, gx, g);
}

static nf_status solve_jt(const nf_object *o, nf_direction d, const nf_pass *p, const nf_real *x, const nf_real *y,
                          void *saved, const nf_real *gx, nf_real *gy)
{
    (void)x, (void)saved;
    const nf_direction back = nfi_opposite(d);
    if (!p->tape)
        return nf_error(NF_EARG, "nf_flow_solve_jt: continuous: the pass has no tape");
    const nf_mark mark = nf_arena_mark(p->scratch), begin = nf_arena_mark(p->tape);
    nf_real *again = nf_arena_reals(p->scratch, o->own.dim_in, p->ld);
    nfi_ode_record *last = NULL;
    nf_status status = again ? run(o, back, p, y, again, NULL, p->tape, &last) : NF_ENOMEM;
    if (status == NF_OK)
        status = nfi_through_steps(o, back, p, last, gx, NULL, gy, &(nf_grad){.theta = NULL});
    nf_arena_rewind(p->tape, begin);
    nf_arena_rewind(p->scratch, mark);
    return status;
}

/* ---- counts ---- */

static void add_counts(const nf_object *o, nf_ode_counts *sum)
{
    if (o->kind == NFI_FLOW && o->type == &nfi_continuous_type) {
        const nfi_ode_tally *t = ((const nfi_continuous *)nf_self(o))->tally;
        sum->solves += atomic_load(&t->solves);
        sum->evaluations += atomic_load(&t->evaluations);
        sum->gradients += atomic_load(&t->gradients);
        sum->steps += atomic_load(&t->steps);
        sum->rejected += atomic_load(&t->rejected);
        sum->failed += atomic_load(&t->failed);
    }
    for (size_t i = 0; i < nf_n_children(o); i++)
        add_counts(nf_child(o, i), sum);
}

nf_ode_counts nf_ode_count(const nf_object *o)
{
    nf_ode_counts sum = {0};
    if (o)
        add_counts(o, &sum);
    return sum;
}

/* ---- construction ---- */

static const char *const solvers[] = {[NF_DOPRI5] = "dopri5", [NF_BOSH3] = "bosh3", [NF_RK4] = "rk4"};
static const char *const traces[] = {
    [NF_TRACE_EXACT] = "exact", [NF_TRACE_RADEMACHER] = "rademacher", [NF_TRACE_GAUSSIAN] = "gaussian"};
static const char *const gradients[] = {[NF_THROUGH_STEPS] = "steps", [NF_ADJOINT] = "adjoint"};
static const nf_choices solver_choices = NFI_CHOICES("solver", solvers);
static const nf_choices trace_choices = NFI_CHOICES("trace", traces);
static const nf_choices gradient_choices = NFI_CHOICES("gradient", gradients);
static const nf_option options_of_type[] = {
    {NF_OPTION(NF_OPTION_CHOICE, nf_continuous_options, solver), .choices = &solver_choices, .help = "Runge-Kutta"},
    {NF_OPTION(NF_OPTION_REAL, nf_continuous_options, rtol), .most = 1, .flags = NF_OPTION_ABOVE | NF_OPTION_BELOW,
     .help = "relative tolerance of a step"},
    {NF_OPTION(NF_OPTION_REAL, nf_continuous_options, atol), .most = 1, .flags = NF_OPTION_ABOVE | NF_OPTION_BELOW,
     .help = "absolute tolerance of a step"},
    {NF_OPTION(NF_OPTION_SIZE, nf_continuous_options, max_steps), .least = 1, .most = 1e9,
     .help = "of a sample, at most"},
    {NF_OPTION(NF_OPTION_SIZE, nf_continuous_options, steps), .least = 1, .most = 1e9, .help = "of rk4"},
    {NF_OPTION(NF_OPTION_REAL, nf_continuous_options, end), .most = 1e6, .flags = NF_OPTION_ABOVE,
     .help = "the time at which y is reached"},
    {NF_OPTION(NF_OPTION_CHOICE, nf_continuous_options, trace), .choices = &trace_choices, .help = "of the Jacobian"},
    {NF_OPTION(NF_OPTION_BOOL, nf_continuous_options, score_by_probes), .flags = NF_OPTION_ADDED,
     .help = "outside training, too"},
    {NF_OPTION(NF_OPTION_SIZE, nf_continuous_options, probes), .least = 1, .most = 65536,
     .help = "random directions for each sample"},
    {NF_OPTION(NF_OPTION_CHOICE, nf_continuous_options, gradient), .choices = &gradient_choices,
     .help = "how it is computed"},
    {NF_OPTION(NF_OPTION_REAL, nf_continuous_options, kinetic), .flags = NF_OPTION_ADDED,
     .help = "weight of the penalty |dz/dt|^2"},
    {NF_OPTION(NF_OPTION_REAL, nf_continuous_options, jacobian), .flags = NF_OPTION_ADDED,
     .help = "weight of the penalty |df/dz|^2"},
};
static const nf_continuous_options defaults = {
    .rtol = 1e-5, .atol = 1e-5, .max_steps = 1000, .steps = 20, .end = 1, .probes = 1};
static const nf_option_table table =
    NF_OPTION_TABLE("nf_continuous", nf_continuous_options, options_of_type, &defaults);
NFI_REBUILD(flow, nf_continuous_options, nf_continuous(nfi_read_net(r, 0, "a continuous flow"), q))

const nf_flow_type nfi_continuous_type = {.abi = sizeof(nf_flow_type),
                                          .part = {.name = "continuous", .destroy = nfi_free},
                                          .apply = apply,
                                          .vjp = vjp,
                                          .solve_jt = solve_jt,
                                          .rebuild = rebuild,
                                          .options = &table};

/* NF_OK if the net can be the field. */
static nf_status check_net(const nf_object *net)
{
    const nf_shape *s = nf_object_shape(net);
    if (s->dim_out == 0 || s->dim_in != s->dim_out + 1)
        return nf_error(NF_EDIM, "nf_continuous: the net takes %zu features and gives %zu, but it takes z and the time",
                        s->dim_in, s->dim_out);
    const nf_net_type *type = net->type;
    if (!type->tangent || !type->tangent_vjp)
        return nf_error(NF_EUNSUPPORTED, "nf_continuous: nets of type `%s` have no tangent map", type->part.name);
    return NF_OK;
}

nf_flow *nf_continuous(nf_net *net, const nf_continuous_options *options)
{
    const nf_object *o = nf_net_object(net);
    const nf_shape *s = nf_object_shape(o);
    nf_continuous_options q;
    struct both {
        nfi_continuous own;
        nfi_ode_tally tally;
    } *self = NULL;
    size_t columns, saved;
    if (net && check_net(o) == NF_OK && nf_options_settle(&table, options, &q) == NF_OK) {
        /* A step's stages fill the caches as a tape would: so they choose the tile's width. */
        if (!nfi_add(q.trace == NF_TRACE_EXACT ? s->dim_out : q.probes, 2, &columns) ||
            !nfi_add(s->n_saved, s->dim_in, &saved) || !nfi_mul(saved, columns, &saved) || !nfi_mul(saved, 6, &saved))
            saved = SIZE_MAX / 2;
        self = nfi_calloc(1, sizeof *self);
    }
    if (!self) {
        nf_net_free(net);
        return NULL;
    }
    self->own = (nfi_continuous){.options = q, .tally = &self->tally};
    const nf_shape own = {.dim_in = s->dim_out,
                          .dim_out = s->dim_out,
                          .n_ctx = s->n_ctx,
                          .n_saved = saved,
                          .flags = q.trace != NF_TRACE_EXACT && q.score_by_probes ? NF_STOCHASTIC : 0};
    return nf_flow_new(&nfi_continuous_type, &own, self, (nf_object *[]){nf_net_object(net)}, 1);
}
