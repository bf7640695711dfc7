"""Planar variational inference in normflows and a flow-VAE in torch: what bench_reverse_kl and bench_vae_step do."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


def fused_adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)


def reverse_kl(dim, length, batch, compiled):
    """normflows as its examples use it: planar flows, a Gaussian base, reverse_kld, Adam."""
    import normflows

    class Normal(nn.Module):  # mean 1, standard deviation 1/2
        def log_prob(self, z):
            return -2 * ((z - 1) ** 2).sum(1)

    flows = [normflows.flows.Planar((dim,)) for _ in range(length)]
    model = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(dim), flows, Normal())
    optimizer = fused_adam(model.parameters())
    loss = torch.compile(model.reverse_kld) if compiled else model.reverse_kld

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss(batch).backward()
        optimizer.step()

    return step


def planar_chain(z, w, u, b):
    """Layers as they are usually written, each by itself: z [n, d], w and u [n, k, d], b [n, k]."""
    log_det = torch.zeros(len(z))
    for wk, uk, bk in zip(w.unbind(1), u.unbind(1), b.unbind(1)):
        wu = (wk * uk).sum(1, keepdim=True)
        u_hat = uk + (F.softplus(wu) - 1 - wu) * wk / (wk * wk).sum(1, keepdim=True)
        h = torch.tanh((wk * z).sum(1, keepdim=True) + bk.unsqueeze(1))
        z = z + u_hat * h
        log_det = log_det + torch.log(torch.abs(1 + ((1 - h * h) * wk * u_hat).sum(1)))
    return z, log_det


def planar_chain_at_once(z, w, u, b):
    """The same with what does not depend on z for all layers at once."""
    wu = (w * u).sum(2)
    sp = F.softplus(wu)
    u_hat = u + ((sp - 1 - wu) / (w * w).sum(2)).unsqueeze(2) * w
    tanhs = []
    for wk, uk, bk in zip(w.unbind(1), u_hat.unbind(1), b.unbind(1)):
        h = torch.tanh((wk * z).sum(1) + bk)
        z = torch.addcmul(z, uk, h.unsqueeze(1))
        tanhs.append(h)
    h = torch.stack(tanhs, 1)
    return z, torch.log1p((1 - h * h) * (sp - 1)).sum(1)


class FlowVAE(nn.Module):
    """784-hidden-hidden, z in R^latent, `length` planar layers with parameters from the encoder, mirrored decoder."""

    def __init__(self, hidden, latent, length, chain):
        super().__init__()
        self.latent, self.length, self.chain = latent, length, chain
        self.encoder = nn.Sequential(nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                                     nn.Linear(hidden, 2 * latent + length * (2 * latent + 1)))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                                     nn.Linear(hidden, 784))

    def forward(self, x):
        d, k = self.latent, self.length
        mean, log_scale, w, u, b = self.encoder(x).split([d, d, k * d, k * d, k], 1)
        noise = torch.randn_like(mean)
        log_q = -(0.5 * noise * noise + log_scale).sum(1) - 0.5 * d * math.log(2 * math.pi)
        z, log_det = self.chain(mean + log_scale.exp() * noise, w.view(-1, k, d), u.view(-1, k, d), b)
        log_q = log_q - log_det
        log_pz = -0.5 * (z * z).sum(1) - 0.5 * d * math.log(2 * math.pi)
        log_px = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="none").sum(1)
        return (log_q - log_pz + log_px).mean()


def vae(hidden, latent, length, batch, chain, compiled):
    model = FlowVAE(hidden, latent, length, chain)
    optimizer = fused_adam(model.parameters())
    loss = torch.compile(model) if compiled else model
    rows = (torch.rand(1000, 784) < 0.13).to(torch.float32)
    order = iter(())

    def step():
        nonlocal order
        chosen = next(order, None)
        if chosen is None:
            order = iter(torch.randperm(len(rows)).split(batch))
            chosen = next(order)
        optimizer.zero_grad(set_to_none=True)
        loss(rows[chosen]).backward()
        optimizer.step()

    return step


CHAINS = {"torch": planar_chain_at_once, "torch-by-layers": planar_chain}
WORKLOADS = {
    "kl-2": lambda package, c: reverse_kl(2, 32, 1000, c),
    "kl-40": lambda package, c: reverse_kl(40, 80, 100, c),
    "vae": lambda package, c: vae(300, 40, 16, 100, CHAINS[package], c),
}


def build(peer, workload):
    return WORKLOADS[workload](peer.removesuffix("-compiled"), peer.endswith("-compiled"))
