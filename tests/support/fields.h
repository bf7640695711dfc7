/* Fields of differential equations that have a closed form, or none, as a user's nets. */
#ifndef FIELDS_H
#define FIELDS_H
#include <nflow/nflow.h>
#include <stdlib.h>

/* ---- Riccati's equation dz/dt = T (a v^2 + 1), v = z - T t: z(1) = 1 / (1 / z(0) - a T) + T; theta a, context T ----
 */

static inline nf_status riccati_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y, void **saved)
{
    (void)o, (void)saved;
    for (size_t s = 0; s < p->ld; s++) {
        const nf_real T = p->ctx[s], v = x[s] - T * x[p->ld + s];
        y[s] = T * (p->theta[0] * v * v + 1);
    }
    return NF_OK;
}

static inline nf_status riccati_tangent(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y,
                                        void *saved, size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent)
{
    (void)o, (void)y, (void)saved, (void)saved_tangent;
    for (size_t i = 0; i < k * p->ld; i++) {
        const size_t s = i % p->ld;
        const nf_real T = p->ctx[s], v = x[s] - T * x[p->ld + s];
        dy[i] = 2 * T * p->theta[0] * v * (dx[i] - T * dx[k * p->ld + i]);
    }
    return NF_OK;
}

/* Directions have no part in time here. */
static inline nf_status riccati_tangent_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y,
                                            void *saved, size_t k, const nf_real *dx, const nf_real *dy,
                                            void *saved_tangent, const nf_real *gy, const nf_real *gdy, nf_real *gx,
                                            nf_real *gdx, const nf_grad *g)
{
    (void)o, (void)y, (void)saved, (void)dy, (void)saved_tangent, (void)gdx;
    const size_t ld = p->ld;
    for (size_t s = 0; s < p->n; s++) {
        const nf_real a = p->theta[0], T = p->ctx[s], t = x[ld + s], v = x[s] - T * t;
        nf_real sum = 0;
        for (size_t j = 0; j < k; j++)
            sum += gdy[j * ld + s] * dx[j * ld + s];
        const nf_real gv = gy[s] * 2 * T * a * v + sum * 2 * T * a;
        if (gx)
            gx[s] = gv, gx[ld + s] = -T * gv;
        if (g->theta)
            g->theta[0] += gy[s] * T * v * v + sum * 2 * T * v;
        if (g->ctx)
            g->ctx[s] += gy[s] * (a * v * v + 1) + sum * 2 * a * v - t * gv;
    }
    for (size_t s = p->n; gx && s < ld; s++)
        gx[s] = gx[ld + s] = 0;
    return NF_OK;
}

static inline nf_status riccati_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y,
                                    void *saved, const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    return riccati_tangent_vjp(o, p, x, y, saved, 0, NULL, NULL, NULL, gy, NULL, gx, NULL, g);
}

static const nf_net_type riccati_type = {.abi = sizeof(nf_net_type),
                                         .part = {.name = "riccati"},
                                         .apply = riccati_apply,
                                         .vjp = riccati_vjp,
                                         .tangent = riccati_tangent,
                                         .tangent_vjp = riccati_tangent_vjp};

static inline nf_net *riccati(void)
{
    const nf_shape own = {.dim_in = 2, .dim_out = 1, .n_ctx = 1, .n_params = 1};
    return nf_net_new(&riccati_type, &own, NULL, NULL, 0);
}

/* ---- van der Pol's equation, stiff for large mu: y'' = mu (1 - y^2) y' - y ---- */

static const nf_real van_der_pol_mu = 1000;

static inline nf_status van_der_pol_apply(const nf_object *o, const nf_pass *p, const nf_real *x, nf_real *y,
                                          void **saved)
{
    (void)o, (void)saved;
    for (size_t s = 0, ld = p->ld; s < ld; s++) {
        y[s] = x[ld + s];
        y[ld + s] = van_der_pol_mu * (1 - x[s] * x[s]) * x[ld + s] - x[s];
    }
    return NF_OK;
}

static inline nf_status van_der_pol_tangent(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y,
                                            void *saved, size_t k, const nf_real *dx, nf_real *dy, void **saved_tangent)
{
    (void)o, (void)y, (void)saved, (void)saved_tangent;
    for (size_t i = 0, n = k * p->ld; i < n; i++) {
        const size_t s = i % p->ld;
        dy[i] = dx[n + i];
        dy[n + i] =
            (-2 * van_der_pol_mu * x[s] * x[p->ld + s] - 1) * dx[i] + van_der_pol_mu * (1 - x[s] * x[s]) * dx[n + i];
    }
    return NF_OK;
}

/* Nobody asks for gradients. */
static inline nf_status no_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y, void *saved,
                               const nf_real *gy, nf_real *gx, const nf_grad *g)
{
    (void)o, (void)p, (void)x, (void)y, (void)saved, (void)gy, (void)gx, (void)g;
    return nf_error(NF_EUNSUPPORTED, "no gradient");
}

static inline nf_status no_tangent_vjp(const nf_object *o, const nf_pass *p, const nf_real *x, const nf_real *y,
                                       void *saved, size_t k, const nf_real *dx, const nf_real *dy, void *saved_tangent,
                                       const nf_real *gy, const nf_real *gdy, nf_real *gx, nf_real *gdx,
                                       const nf_grad *g)
{
    (void)k, (void)dx, (void)dy, (void)saved_tangent, (void)gdy, (void)gdx;
    return no_vjp(o, p, x, y, saved, gy, gx, g);
}

static const nf_net_type van_der_pol_type = {.abi = sizeof(nf_net_type),
                                             .part = {.name = "van_der_pol"},
                                             .apply = van_der_pol_apply,
                                             .vjp = no_vjp,
                                             .tangent = van_der_pol_tangent,
                                             .tangent_vjp = no_tangent_vjp};
/* Without a tangent. */
static const nf_net_type tangentless_type = {
    .abi = sizeof(nf_net_type), .part = {.name = "tangentless"}, .apply = van_der_pol_apply, .vjp = no_vjp};

static inline nf_net *net_of_two(const nf_net_type *type)
{
    const nf_shape own = {.dim_in = 3, .dim_out = 2};
    return nf_net_new(type, &own, NULL, NULL, 0);
}

#endif
