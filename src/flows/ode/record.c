/* See record.h. On the tape follow one another: stage 0; for each step its other stages, the next step's stage 0, and
   the record. What a rejected step left is given back when the next one begins. */
#include "flows/ode/record.h"
#include "object/tree.h"
#include <string.h>

/* About how many bytes a stage takes on the tape. */
static double bytes_of_stage(const nfi_field *f, const nfi_ode *o)
{
    const nf_shape *s = nf_object_shape(f->net);
    const double columns = o->quadrature ? 1 + (double)f->k : 1;
    return columns * ((double)s->n_saved + 2 * (double)s->dim_in) * (double)f->pass.ld * sizeof(nf_real);
}

void nfi_recorder_begin(const nfi_field *f, const nfi_ode *o, nf_arena *tape, nfi_recorder *r)
{
    *r = (nfi_recorder){.tape = tape, .keeps = tape && (o->shared || !o->rule->adaptive)};
    r->room = (size_t)(NFI_KEPT_BYTES / bytes_of_stage(f, o));
}

nf_status nfi_recorder_evaluate(nfi_recorder *r, const nfi_field *f, const nfi_ode *o, const nf_real *u,
                                bool quadrature, nf_real *k)
{
    const size_t ld = o->pass->ld;
    nf_real *trace = quadrature ? k + (o->rows - 1) * ld : NULL, *rate = trace && o->further ? trace + ld : NULL;
    if (r->keeps && o->stage == 1) {
        nf_arena_rewind(r->tape, r->end);
        r->keeps = r->room > o->rule->stages;
    }
    const bool keep = r->keeps && o->stage != NFI_ODE_TRIAL;
    const nf_status status = nfi_field_at(f, u, k, trace, rate, r->tape, keep ? &r->at[o->stage] : NULL);
    if (o->stage == 0 && keep)
        r->end = nf_arena_mark(r->tape);
    return status;
}

nf_status nfi_recorder_step(nfi_recorder *r, const nfi_ode *o, const nf_real *points, const nf_real *h)
{
    const size_t ld = o->pass->ld, stages = o->rule->stages, size = r->keeps ? 0 : o->rows * ld;
    nfi_ode_record *record = nf_arena_alloc(r->tape, sizeof *record);
    nfi_field_point *at = r->keeps ? nf_arena_alloc(r->tape, stages * sizeof *at) : NULL;
    nf_real *lengths = nf_arena_reals(r->tape, 1, size + ld), *u = lengths ? lengths + ld : NULL;
    if (!record || !lengths || (r->keeps && !at))
        return NF_ENOMEM;
    memcpy(lengths, h, ld * sizeof *lengths);
    memcpy(u, points, size * sizeof *u);
    *record = (nfi_ode_record){.before = r->last, .u = u, .h = lengths, .at = at};
    r->last = record;
    if (at) {
        memcpy(at, r->at, stages * sizeof *at);
        record->u = at[0].u;
        r->at[0] = r->at[stages];
        r->room -= stages;
        r->end = nf_arena_mark(r->tape);
    }
    return NF_OK;
}
