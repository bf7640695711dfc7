"""Likelihoods of examples/toys beside those of zuko, normflows and FlowJAX: the same rows, the same number and width of
layers, the same updates (Adam, gradients no longer than 10, the rate falls to 0 along a cosine), float32.

    ~/nflow-peers/bin/python bench/peers_toys.py --toys build/examples/toys --data eight-gaussians,moons --steps 2000

Every package sees each row of the training file once, in batches, and is scored on the test file. Rows are standardised
before the peers see them, as the example's last layer does. What differs from package to package is left as the package
has it: scales, permutations, initial weights, the box of splines. Printed are test log-likelihoods in nats a row, and
ours less the best peer's. How many layers, and at which rate, says FAMILIES below, as examples/toys.c does.
"""
import argparse
import json
import math
import pathlib
import subprocess
import tempfile

import numpy

FAMILIES = {"realnvp": (16, 0.001), "maf": (12, 0.001), "nsf-coupling": (8, 0.002), "nsf-autoregressive": (6, 0.002)}
HIDDEN, BINS, BOX, CLIP = 64, 8, 3.0, 10.0


def torch_flow(peer, family, layers):
    import peers_flows
    peers_flows.HIDDEN, peers_flows.residual_net = HIDDEN, peers_flows.WithoutContext
    return peers_flows.PEERS[peer]({"nsf-autoregressive": "nsf-ar"}.get(family, family), 2, layers)


def by_torch(peer, family, train, test, batch, seed):
    import torch
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    layers, rate = FAMILIES[family]
    flow = torch_flow(peer, family, layers)
    optimizer = torch.optim.Adam(flow.parameters(), lr=rate)
    steps = len(train) // batch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for x in torch.from_numpy(train).split(batch)[:steps]:
        optimizer.zero_grad()
        (-flow.log_prob(x).mean()).backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), CLIP)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return float(flow.log_prob(torch.from_numpy(test)).mean())


def by_flowjax(family, train, test, batch, seed):
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax
    import paramax
    from flowjax.bijections import RationalQuadraticSpline
    from flowjax.distributions import Normal
    from flowjax.flows import coupling_flow, masked_autoregressive_flow
    layers, rate = FAMILIES[family]
    make = coupling_flow if family in ("realnvp", "nsf-coupling") else masked_autoregressive_flow
    transformer = RationalQuadraticSpline(knots=BINS - 1, interval=BOX) if "nsf" in family else None
    flow = make(jax.random.key(seed), base_dist=Normal(jnp.zeros(2)), transformer=transformer, flow_layers=layers,
                nn_width=HIDDEN, nn_depth=2)
    numbers, rest = eqx.partition(flow, eqx.is_inexact_array, is_leaf=lambda a: isinstance(a, paramax.NonTrainable))
    steps = len(train) // batch
    optimizer = optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(optax.cosine_decay_schedule(rate, steps)))

    @jax.jit
    def update(numbers, state, x):
        gradient = jax.grad(lambda n: -paramax.unwrap(eqx.combine(n, rest)).log_prob(x).mean())(numbers)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(numbers, updates), state

    state = optimizer.init(numbers)
    for i in range(steps):
        numbers, state = update(numbers, state, train[i * batch:(i + 1) * batch])
    return float(paramax.unwrap(eqx.combine(numbers, rest)).log_prob(jnp.asarray(test)).mean())


def ours(toys, folder, data, family, args):
    out = folder / "ours.json"
    subprocess.run([toys, "--data", data, "--flow", family, "--steps", str(args.steps), "--batch", str(args.batch),
                    "--seed", str(args.seed), "--json", out], check=True, stdout=subprocess.DEVNULL)
    return json.loads(out.read_text())["results"][0]["log_likelihood"]


def rows(folder, data, what):
    return numpy.fromfile(folder / f"{data}-{what}.f32", dtype=numpy.float32).reshape(-1, 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--toys", required=True, help="the example's program")
    parser.add_argument("--data", default="eight-gaussians,moons,two-spirals,rings,checkerboard,pinwheel")
    parser.add_argument("--flow", default=",".join(FAMILIES))
    parser.add_argument("--peers", default="zuko,normflows,flowjax")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    peers = args.peers.split(",")
    print(f"{'data':16} {'flow':19} {'nflow':>9}", *(f"{p:>9}" for p in peers), "ours less the best peer's", flush=True)
    with tempfile.TemporaryDirectory() as tmp:
        folder = pathlib.Path(tmp)
        for data in args.data.split(","):
            subprocess.run([args.toys, "--data", data, "--steps", str(args.steps), "--batch", str(args.batch),
                            "--seed", str(args.seed), "--save-data", folder], check=True)
            train, test = rows(folder, data, "train"), rows(folder, data, "test")
            mean, deviation = train[:1000].mean(0), train[:1000].std(0)
            scale = float(numpy.log(deviation).sum())
            train, test = (train - mean) / deviation, (test - mean) / deviation
            for family in args.flow.split(","):
                mine, found = ours(args.toys, folder, data, family, args), []
                for peer in peers:
                    score = by_flowjax if peer == "flowjax" else lambda *a, peer=peer: by_torch(peer, *a)
                    found.append(score(family, train, test, args.batch, args.seed) - scale)
                best = max((f for f in found if math.isfinite(f)), default=math.nan)
                print(f"{data:16} {family:19} {mine:9.4f}", *(f"{f:9.4f}" for f in found), f"{mine - best:+9.4f}",
                      flush=True)


if __name__ == "__main__":
    main()
