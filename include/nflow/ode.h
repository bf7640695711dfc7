/**
 * @file ode.h
 * Continuous flows: y is where a differential equation takes x.
 *
 * Constructors return NULL on failure; nf_error_message() says why.
 */
#ifndef NFLOW_ODE_H
#define NFLOW_ODE_H
#include <nflow/flow.h>
NF_BEGIN_DECLS

/** How a differential equation is solved: explicit Runge-Kutta methods. */
typedef enum nf_solver {
    NF_DOPRI5, /**< Dormand & Prince 5(4), adaptive steps of 6 evaluations; the default */
    NF_BOSH3,  /**< Bogacki & Shampine 3(2), adaptive steps of 3 evaluations: for loose tolerances */
    NF_RK4     /**< the classical method of order 4, with steps of equal length and 4 evaluations each */
} nf_solver;

/** How the trace of the Jacobian df/dz is computed, whose integral is the log-det. */
typedef enum nf_trace {
    NF_TRACE_EXACT,      /**< by dim directions; the default */
    NF_TRACE_RADEMACHER, /**< Hutchinson's estimate <e, J e> with random signs e, exact if J is diagonal */
    NF_TRACE_GAUSSIAN    /**< the same with normal e */
} nf_trace;

/** How a continuous flow computes gradients. */
typedef enum nf_ode_gradient {
    /**
     * The gradient of the steps that were taken, whose lengths count as constants; the default. The tape keeps the
     * state at the start of each step, dim + 2 numbers. In training, and with NF_RK4 always, it also keeps the steps'
     * stages, up to about 8 MiB for a tile; the stages of other steps are computed again, one step at a time.
     */
    NF_THROUGH_STEPS,
    /**
     * The adjoint equation (Chen et al. 2018), solved back from y with the same solver and tolerances. Nothing is
     * kept on the tape. The gradient has an error of its own, of the size of the tolerances, and takes about twice as
     * long.
     */
    NF_ADJOINT
} nf_ode_gradient;

/** Options of nf_continuous; zero means the default. */
typedef struct nf_continuous_options {
    nf_solver solver; /**< the method; NF_DOPRI5 */
    /**
     * Relative tolerance, between 0 and 1; 1e-5. Of each step, the root of the mean square of
     * error / (atol + rtol |value|) is at most 1. The mean is over the dim features of z and the log-det.
     * Tolerances below 10 roundings (double: 2.2e-15, float: 1.2e-6) count as that.
     */
    double rtol;
    double atol;      /**< absolute tolerance, between 0 and 1; 1e-5 */
    size_t max_steps; /**< of adaptive methods: steps for each sample, rejected ones included; 1000 */
    size_t steps;     /**< of NF_RK4; 20 */
    double end;       /**< the time T at which y is reached; above 0; 1 */
    nf_trace trace;   /**< how the trace is computed in training; NF_TRACE_EXACT */
    /**
     * true: the trace is estimated outside training (NF_EVAL), too: in scores, samples with log q, nf_transform() and
     * its gradients. By default it is exact there, so that scores need no noise and have none; that takes dim
     * directions. FFJORD's authors train by probes and report exact densities likewise.
     */
    bool score_by_probes;
    size_t probes;            /**< random directions e for each sample, whose estimates are averaged; 1 */
    nf_ode_gradient gradient; /**< how gradients are computed; NF_THROUGH_STEPS */
    /**
     * Weight of a penalty on long paths (Finlay et al. 2020): kinetic times the integral over the solve of
     * |f|^2 dt, a sum over features. At least 0; 0: none. See nf_continuous().
     */
    double kinetic;
    /**
     * Weight of a penalty on fields that vary (Finlay et al. 2020): jacobian times the integral of |df/dz|_F^2
     * dt, the sum of the squares of all entries. It is exact with NF_TRACE_EXACT. With probes it is the mean over them
     * of |df/dz e|^2, whose expectation it is. At least 0; 0: none.
     */
    double jacobian;
} nf_continuous_options;

/**
 * A continuous flow (Chen et al. 2018; FFJORD, Grathwohl et al. 2019): dz/dt = f(z, t, context) from z(0) = x to
 * z(T) = y, with log-det the integral of tr(df/dz). The inverse goes back from T to 0. f is a net whose inputs are the
 * dim features of z and then the time t. It should be smooth: with kinks (ReLU) adaptive steps become short.
 *
 * Outside training each sample has its own steps, which depend on nothing but this sample. In training (NF_TRAIN) the
 * samples of a tile share their steps, and the mean square of a step's error is over the tile; if a sample then cannot
 * be solved, each gets its own. The first step is chosen by the rule of Hairer, Norsett & Wanner (1993, section II.4),
 * the others by PI control and, where they get harder, by predictive control (Gustafsson 1994).
 *
 * A sample fails alone and becomes NaN if it runs out of steps, if its steps become too short to change t, or if its
 * numbers are not finite (a field that blows up, a stiff one). No call hangs: a solve takes at most
 * 2 + s max_steps evaluations of the net (s = 6 for NF_DOPRI5, 3 for NF_BOSH3; NF_RK4: 4 steps), one in training twice
 * that, and the gradient at most as many again, or with NF_ADJOINT twice as many.
 *
 * Penalties (`kinetic`, `jacobian`) make fields that need fewer evaluations. In training both directions add theirs to
 * nf_pass.penalty, and so objectives to the loss; nothing else changes, and outside training there is none. They are
 * integrals like the log-det, but have no part in the choice of steps, and reuse what the log-det computes. They are
 * sums over features, as the loss is in nats of the whole row. The code of Finlay et al. (ffjord-rnode) has a loss in
 * bits per dimension, half the mean of f^2 over the features, and the mean of (e^T df/dz)^2: its weights lambda_K and
 * lambda_J are kinetic = lambda_K ln(2) / 2 and jacobian = lambda_J ln(2) here.
 *
 * Probes are noise of the pass. They are the same during a solve, in both directions, and in the gradient. With
 * score_by_probes the flow is NF_STOCHASTIC, and scoring needs an nf_noise.
 * @param net dim + 1 inputs, dim outputs, with a tangent map; may read context. Consumed, also on failure
 * @param options NULL: the defaults
 * @return NULL on NF_EARG (an option out of its range), NF_EDIM (the net's sizes), NF_EUNSUPPORTED (a net without
 * tangent), NF_ENOMEM.
 */
NF_API nf_flow *nf_continuous(nf_net *net, const nf_continuous_options *options);

/** What solvers did since the flow was made: all calls, all threads. */
typedef struct nf_ode_counts {
    uint64_t solves;      /**< tiles that were solved, adjoint equations included */
    uint64_t evaluations; /**< of the net, each for a whole tile. Gradients need some where stages were not kept */
    uint64_t gradients;   /**< evaluations of the net's vector-Jacobian product, each for a whole tile */
    uint64_t steps;       /**< steps of tiles in which at least one sample moved */
    uint64_t rejected;    /**< steps of tiles in which none did */
    uint64_t failed;      /**< samples that could not be solved */
} nf_ode_counts;

/**
 * The counts of all continuous flows in a tree, added up. The difference of two calls is what happened in between. If
 * other threads compute meanwhile, the numbers may belong to slightly different moments.
 * @param o a node of any kind; NULL: all counts are 0
 */
NF_API nf_ode_counts nf_ode_count(const nf_object *o);

NF_END_DECLS
#endif
