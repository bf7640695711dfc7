/* Targets from the inside. */
#ifndef NFI_TARGET_H
#define NFI_TARGET_H
#include <nflow/target.h>

struct nf_target {
    size_t d;
    nf_thread_rule rule;
    nf_target_fn *f; /* what is called, with `user`; for a point callback the adapter, whose user is the target */
    void *user;
    nf_target_point_fn *point;
    void *point_user;
    double step; /* of finite differences; 0: f gives gradients */
};

/* Calls f. Flags arrive cleared; rejected draws leave with log_p = -inf and a zero gradient. grad may be NULL. */
nf_status nfi_target_call(const nf_target *t, size_t n, const double *x, double *log_p, double *grad,
                          unsigned char *rejected);
/* grad [n x d] from differences of f about x, where it is log_p [n]; rejected [n] tells where it is not defined. */
nf_status nfi_target_differences(const nf_target *t, double step, size_t n, const double *x, const double *log_p,
                                 const unsigned char *rejected, double *grad);

#endif
