"""The flows of bench_flows in FlowJAX, jitted, float32.

FlowJAX's couplings have plain nets: for the residual net of two blocks stands a plain one of five hidden layers, which
has the same products. Its layers are followed by permutations, which cost little.
"""
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from flowjax.bijections import RationalQuadraticSpline
from flowjax.distributions import Normal
from flowjax.flows import coupling_flow, masked_autoregressive_flow

BATCH, HIDDEN, BINS, BOX = 512, 256, 8, 3.0


def flow_of(family):
    def spline():
        return RationalQuadraticSpline(knots=BINS - 1, interval=BOX)

    def base(dim):
        return Normal(jnp.zeros(dim))

    key, width = jr.key(1), {"nn_width": HIDDEN, "nn_depth": 2}
    if family == "maf":
        return masked_autoregressive_flow(key, base_dist=base(63), flow_layers=5, **width), 63
    if family == "iaf":
        return masked_autoregressive_flow(key, base_dist=base(64), flow_layers=5, invert=False, **width), 64
    if family == "nsf-ar":
        return masked_autoregressive_flow(key, base_dist=base(21), transformer=spline(), flow_layers=5, **width), 21
    if family == "realnvp":
        return coupling_flow(key, base_dist=base(64), flow_layers=10, **width), 64
    return coupling_flow(key, base_dist=base(21), transformer=spline(), flow_layers=10, nn_width=HIDDEN, nn_depth=5), 21


def build(peer, workload):
    family, _, what = workload.rpartition("-")
    flow, dim = flow_of(family)
    x = jr.normal(jr.key(2), (BATCH, dim))
    if what == "density":
        call = eqx.filter_jit(lambda flow, x: flow.log_prob(x))
        return lambda: call(flow, x).block_until_ready()
    if what == "sample":
        def draw(flow, key):
            key, use = jr.split(key)
            return key, flow.sample_and_log_prob(use, (BATCH,)) if family == "iaf" else flow.sample(use, (BATCH,))

        call, key = eqx.filter_jit(draw), jr.key(3)

        def sample():
            nonlocal key
            key, drawn = call(flow, key)
            jax.block_until_ready(drawn)

        return sample

    import paramax
    numbers, rest = eqx.partition(flow, eqx.is_inexact_array, is_leaf=lambda a: isinstance(a, paramax.NonTrainable))
    optimizer = optax.adam(1e-4)
    state = optimizer.init(numbers)

    def loss(numbers, x):
        return -eqx.combine(numbers, rest).log_prob(x).mean()

    def update(numbers, state, x):
        gradient = jax.grad(loss)(numbers, x)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(numbers, updates), state

    call = jax.jit(update, donate_argnums=(0, 1))

    def step():
        nonlocal numbers, state
        numbers, state = call(numbers, state, x)
        jax.block_until_ready(numbers)

    return step
