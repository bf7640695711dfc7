"""A posterior in Pyro, for bench/peers_inference.py: AutoNormalizingFlow fitted by SVI.

    python peers_pyro.py REQUEST.json ANSWER.npz      (peers_posteriors.py)

Guides: affine (two affine_autoregressive layers), block (two block_autoregressive layers). All particles of a step are one
batch. Adam's rate falls to 0 along a cosine, and gradients are clipped (ClippedAdam). A fit that stops because something is
not finite tells the step; its checkpoints end there.
"""
import time

from peers_posteriors import Request, sites, values_of

r = Request()
begin = time.time()
import functools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch.distributions import biject_to
from pyro.distributions.transforms import affine_autoregressive, block_autoregressive, iterated
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormalizingFlow

r.part('import')
r.tell(import_seconds=time.time() - begin)
torch.set_num_threads(1)
pyro.set_rng_seed(r.seed)
data = {k: torch.tensor(v, dtype=torch.float) if isinstance(v, list) else v for k, v in r.data.items()}
LAYERS = {'affine': affine_autoregressive, 'block': block_autoregressive}


def schools():
    mu = pyro.sample('mu', dist.Normal(torch.tensor(0.0), 5)).unsqueeze(-1)
    tau = pyro.sample('tau', dist.HalfCauchy(torch.tensor(5.0))).unsqueeze(-1)
    if 'noncentered' in r.posterior:
        theta = mu + tau * pyro.sample('eta', dist.Normal(torch.zeros(8), 1).to_event(1))
    else:
        theta = pyro.sample('theta', dist.Normal(mu + torch.zeros(8), tau).to_event(1))
    pyro.sample('y', dist.Normal(theta, data['sigma']).to_event(1), obs=data['y'])


def logistic():
    alpha = pyro.sample('alpha', dist.Normal(torch.tensor(0.0), 2.5)).unsqueeze(-1)
    scale = pyro.sample('scale', dist.HalfNormal(torch.tensor(1.0))).unsqueeze(-1)
    beta = pyro.sample('beta', dist.Normal(torch.zeros(data['K']), scale).to_event(1))
    pyro.sample('y', dist.Bernoulli(logits=alpha + beta @ data['x'].T).to_event(1), obs=data['y'])


model = logistic if r.posterior == 'logistic_regression' else schools


def log_joint(point):
    """Of values [n] and [n, size], on the unconstrained scale, with Stan's constants."""
    trace = poutine.trace(poutine.condition(model, point)).get_trace()
    trace.compute_log_prob()
    jacobian = sum(point[n].log() for n, _, positive in sites(r.posterior, data) if positive)
    return sum(s['log_prob'] for s in trace.nodes.values() if s['type'] == 'sample') + jacobian - math.log(2)


def evaluate(kept):
    guide.load_state_dict(kept)
    with torch.no_grad():
        q = guide.get_posterior()
        z = q.rsample([r.draws])
        point = {s['name']: biject_to(s['fn'].support)(u) for s, u in guide._unpack_latent(z)}
        return ((log_joint(point) - q.log_prob(z)).double().numpy(),
                values_of(r.posterior, data, {k: v.numpy() for k, v in point.items()}))


def parameters():
    return {k: v.detach().clone() for k, v in guide.state_dict().items()}


begin = time.time()
guide = AutoNormalizingFlow(model, functools.partial(iterated, 2, LAYERS[r.guide]))
many = max(r.steps // r.checkpoints, 1)
svi = SVI(model, guide, pyro.optim.ClippedAdam({'lr': r.rate, 'lrd': 1.0}),
          Trace_ELBO(num_particles=r.particles, vectorize_particles=True, max_plate_nesting=0))
guide()
svi.loss(model, guide)
r.part('compile')
r.tell(compile_seconds=time.time() - begin, stopped=-1)
for step in range(many * r.checkpoints):
    for optimizer in svi.optim.optim_objs.values():
        for group in optimizer.param_groups:
            group['lr'] = r.rate * 0.5 * (1 + math.cos(math.pi * step / r.steps))
    try:
        loss = svi.step()
    except ValueError:  # Pyro's distributions refuse parameters that are not finite
        loss = math.nan
    if not math.isfinite(loss):
        r.tell(stopped=step)
        break
    if (step + 1) % many == 0:
        r.checkpoint(parameters())
with torch.no_grad():
    r.tell(log_p=np.array([float(log_joint({k: torch.tensor(v) for k, v in p.items()})) for p in r.points]))
if not r.answer['at']:
    r.checkpoint(parameters())
r.finish(evaluate)
