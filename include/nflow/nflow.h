/**
 * @file nflow.h
 * nflow: normalizing flows for C. This header includes all others but gsl.h.
 *
 *     nf_flow  *flow = nf_chain((nf_flow *[]){ nf_planar(2), nf_planar(2), nf_radial(2) }, 3);
 *     nf_model *q    = nf_model_of_dist(nf_pushforward(nf_normal(2), flow), &(nf_model_options){ .seed = 7 });
 */
#ifndef NFLOW_H
#define NFLOW_H
#include <nflow/base.h>
#include <nflow/noise.h>
#include <nflow/object.h>
#include <nflow/description.h>
#include <nflow/options.h>
#include <nflow/net.h>
#include <nflow/flow.h>
#include <nflow/combine.h>
#include <nflow/monotone.h>
#include <nflow/elementwise.h>
#include <nflow/linear.h>
#include <nflow/residual.h>
#include <nflow/ode.h>
#include <nflow/image.h>
#include <nflow/recipes.h>
#include <nflow/constraints.h>
#include <nflow/dist.h>
#include <nflow/model.h>
#include <nflow/import.h>
#include <nflow/target.h>
#include <nflow/stan.h>
#include <nflow/data.h>
#include <nflow/schedule.h>
#include <nflow/convergence.h>
#include <nflow/objective.h>
#include <nflow/ranks.h>
#include <nflow/vi.h>
#include <nflow/importance.h>
#include <nflow/draws.h>
#include <nflow/density.h>
#include <nflow/fit.h>
#include <nflow/inference.h>
#include <nflow/vae.h>
#include <nflow/check.h>
#endif
