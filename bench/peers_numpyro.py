"""A posterior in NumPyro, for bench/peers_inference.py: a guide fitted by SVI, or draws by NUTS.

    python peers_numpyro.py REQUEST.json ANSWER.npz      (peers_posteriors.py)

Guides: iaf (AutoIAFNormal), bnaf (AutoBNAFNormal), normal (AutoMultivariateNormal). Between two checkpoints the steps are
one compiled loop, which XLA compiles once. Adam's rate falls to 0 along a cosine.
"""
import time

from peers_posteriors import Request, sites, values_of

r = Request()
begin = time.time()
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO, autoguide
from numpyro.infer.util import log_density

r.part('import')
r.tell(import_seconds=time.time() - begin)
data = {k: jnp.asarray(v, float) if isinstance(v, list) else v for k, v in r.data.items()}
GUIDES = {'iaf': autoguide.AutoIAFNormal, 'bnaf': autoguide.AutoBNAFNormal,
          'normal': autoguide.AutoMultivariateNormal}


def schools():
    mu = numpyro.sample('mu', dist.Normal(0, 5))
    tau = numpyro.sample('tau', dist.HalfCauchy(5))
    numpyro.factor('half', -jnp.log(2.0))
    if 'noncentered' in r.posterior:
        theta = mu + tau * numpyro.sample('eta', dist.Normal(jnp.zeros(8), 1).to_event(1))
    else:
        theta = numpyro.sample('theta', dist.Normal(mu, tau).expand([8]).to_event(1))
    numpyro.sample('y', dist.Normal(theta, data['sigma']).to_event(1), obs=data['y'])


def logistic():
    alpha = numpyro.sample('alpha', dist.Normal(0, 2.5))
    scale = numpyro.sample('scale', dist.HalfNormal(1))
    numpyro.factor('half', -jnp.log(2.0))
    beta = numpyro.sample('beta', dist.Normal(0, scale).expand([data['K']]).to_event(1))
    numpyro.sample('y', dist.Bernoulli(logits=alpha + data['x'] @ beta).to_event(1), obs=data['y'])


model = logistic if r.posterior == 'logistic_regression' else schools


def log_densities():
    """On the unconstrained scale, as Stan's: with the log-Jacobian of exp."""
    out = []
    for p in r.points:
        point = {k: jnp.asarray(v) for k, v in p.items()}
        jacobian = sum(jnp.log(point[n]) for n, _, positive in sites(r.posterior, data) if positive)
        out.append(float(log_density(model, (), {}, point)[0] + jacobian))
    return np.array(out)


def nuts():
    mcmc = MCMC(NUTS(model, target_accept_prob=0.95), num_warmup=1000, num_samples=r.draws // 4, num_chains=4,
                chain_method='sequential', progress_bar=False)
    mcmc.run(jax.random.PRNGKey(r.seed))
    r.checkpoint(None)
    r.finish(lambda _: (np.zeros(r.draws), values_of(r.posterior, data, mcmc.get_samples())))


def fit():
    guide = GUIDES[r.guide](model)
    rate = lambda i: r.rate * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(i / r.steps, 1)))
    svi = SVI(model, guide, numpyro.optim.Adam(rate), Trace_ELBO(num_particles=r.particles))
    many = max(r.steps // r.checkpoints, 1)
    begin = time.time()
    state = jax.jit(svi.init)(jax.random.PRNGKey(r.seed))
    loop = jax.jit(lambda s: jax.lax.scan(lambda t, _: svi.update(t), s, None, length=many)[0]).lower(state).compile()
    r.part('compile')
    r.tell(compile_seconds=time.time() - begin)
    for _ in range(r.checkpoints):
        state = jax.block_until_ready(loop(state))
        r.checkpoint(svi.get_params(state))

    one = Trace_ELBO()
    weights = jax.jit(lambda keys, p: jax.lax.map(lambda k: -one.loss(k, p, model, guide), keys, batch_size=1000))
    sample = jax.jit(lambda key, p: guide.sample_posterior(key, p, sample_shape=(r.draws,)))

    def evaluate(params):
        key = jax.random.PRNGKey(r.seed + 1000)
        return (np.asarray(weights(jax.random.split(key, r.draws), params), float),
                values_of(r.posterior, data, sample(key, params)))

    r.tell(log_p=log_densities())
    r.finish(evaluate)


if r.guide == 'nuts':
    nuts()
else:
    fit()
