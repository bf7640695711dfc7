"""The continuous flows of bench_continuous in JAX: a net of Equinox, solved by Diffrax, jitted, float32.

FlowJAX has no continuous flows, so these few lines are what its users would write. All rows are one state, so that they
share their steps; its gradient goes back through the steps, with a checkpoint for each. See peers_ode.py.
"""
import math

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax

BATCH, WARM_UP, CLUSTERS, TOLERANCE, MOST_STEPS = 512, 500, 8, 1e-5, 64


def clusters(dim):
    turn = (jnp.arange(BATCH) % CLUSTERS)[:, None] / CLUSTERS
    return 0.5 * jr.normal(jr.key(2), (BATCH, dim)) + 3 * jnp.cos(math.pi / 2 * (4 * turn + jnp.arange(dim)))


class Counter:
    """Evaluations of the net, told by XLA while it runs a step that was compiled for counting."""

    def __init__(self):
        self.evaluations = 0

    def add(self):
        self.evaluations += 1


def field_of(net, dim, e, counter):
    """(x, l) -> (dx/dt, trace)"""
    def with_trace(t, state, args):
        if counter:
            jax.debug.callback(counter.add)

        def at_time(x):
            return jax.vmap(net)(jnp.concatenate((x, jnp.full((BATCH, 1), t)), axis=1))

        x, _ = state
        y, tangent = jax.linearize(at_time, x)
        if dim == 2:
            trace = sum(tangent(jnp.zeros_like(x).at[:, i].set(1))[:, i] for i in range(dim))
        else:
            trace = jnp.sum(e * tangent(e), axis=1)
        return y, trace

    def without(t, x, args):
        if counter:
            jax.debug.callback(counter.add)
        return jax.vmap(net)(jnp.concatenate((x, jnp.full((BATCH, 1), t)), axis=1))

    return with_trace, without


def solve(field, start, begin, end):
    return diffrax.diffeqsolve(diffrax.ODETerm(field), diffrax.Dopri5(), begin, end, None, start, max_steps=MOST_STEPS,
                               stepsize_controller=diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE),
                               adjoint=diffrax.RecursiveCheckpointAdjoint(checkpoints=MOST_STEPS))


def evaluations_of(call, counter):
    """One call; the evaluations in it."""
    before = counter.evaluations
    jax.block_until_ready(call())
    jax.effects_barrier()
    return counter.evaluations - before


def build(peer, workload):
    _, dim, what = workload.split("-")
    dim = int(dim)
    net = eqx.nn.MLP(dim + 1, dim, 64, 3, activation=jnp.tanh, key=jr.key(1))
    numbers, rest = eqx.partition(net, eqx.is_inexact_array)
    x = clusters(dim)

    def log_prob(numbers, x, key, counter=None):
        e = jr.rademacher(key, x.shape, x.dtype)
        with_trace, _ = field_of(eqx.combine(numbers, rest), dim, e, counter)
        z, log_det = jax.tree.map(lambda a: a[-1], solve(with_trace, (x, jnp.zeros(BATCH)), 0.0, 1.0).ys)
        return -0.5 * jnp.sum(z ** 2, axis=1) - 0.5 * dim * math.log(2 * math.pi) + log_det

    def sample(numbers, key, counter=None):
        _, without = field_of(eqx.combine(numbers, rest), dim, None, counter)
        return solve(without, jr.normal(key, (BATCH, dim)), 1.0, 0.0).ys[-1]

    optimizer = optax.adam(1e-3)
    state = optimizer.init(numbers)

    def update(numbers, state, key, rate, counter=None):
        key, use = jr.split(key)
        gradient = jax.grad(lambda numbers: -log_prob(numbers, x, use, counter).mean())(numbers)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(numbers, jax.tree.map(lambda u: rate * u, updates)), state, key

    train, key = jax.jit(update, static_argnames="counter", donate_argnums=(0, 1)), jr.key(3)
    for _ in range(WARM_UP):
        numbers, state, key = train(numbers, state, key, 1.0)
    counter = Counter()
    counted = {"train": lambda: jax.jit(update, static_argnames="counter")(numbers, state, key, 0.0, counter=counter),
               "density": lambda: jax.jit(log_prob, static_argnames="counter")(numbers, x, key, counter=counter),
               "sample": lambda: jax.jit(sample, static_argnames="counter")(numbers, key, counter=counter)}
    calls = {"density": jax.jit(lambda numbers, key: log_prob(numbers, x, key)), "sample": jax.jit(sample)}

    def step():
        nonlocal numbers, state, key
        if what == "train":
            numbers, state, key = train(numbers, state, key, 0.0)
            jax.block_until_ready(numbers)
        else:
            key, use = jr.split(key)
            jax.block_until_ready(calls[what](numbers, use))

    step.evaluations = (evaluations_of(counted["density" if what == "train" else what], counter),
                        evaluations_of(counted[what], counter))
    return step
