"""A benchmark's workload in another package, for bench/compare.

    python peers.py PEER WORKLOAD THREADS

PEER is zuko, nflows, normflows, torch, torch-by-layers (each also with -compiled: torch.compile), flowjax, or for residual
flows normflows or residual-flows (each also with -exact), or for continuous flows zuko, ffjord, ffjord-steps or diffrax.
Builds the workload, warms up, says "ready" with the seconds that took and, of a continuous flow, the evaluations of its
net in a step (those of the solve, and all with the gradient's). Then, for every line it reads, times a block of steps and
prints the mean seconds a step. One process a peer, so that each keeps its own settings and all can be timed in turns.

Workloads: peers_planar.py (kl-2, kl-40, vae), peers_sylvester.py (sylvester), peers_residual.py (residual-train,
residual-density, roulette-train), peers_ode.py and peers_diffrax.py (those of bench_continuous), peers_flows.py and
peers_jax.py (the other flows of bench_flows), peers_images.py (those of bench_images).
"""
import importlib
import os
import sys
import time

BLOCK_SECONDS = 1.0


def block(step):
    """Seconds a step."""
    begin, n = time.perf_counter(), 0
    while time.perf_counter() - begin < BLOCK_SECONDS or n < 3:
        step()
        n += 1
    return (time.perf_counter() - begin) / n


def builder(peer, workload, threads):
    if peer in ("flowjax", "diffrax"):  # XLA takes as many threads as it may run on processors
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        return importlib.import_module("peers_jax" if peer == "flowjax" else "peers_diffrax").build
    import torch
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(1)
    import peers_flows
    import peers_images
    import peers_ode
    import peers_planar
    import peers_residual
    import peers_sylvester
    own = (peers_images, peers_ode, peers_planar, peers_residual, peers_sylvester)
    return next((peers.build for peers in own if workload in peers.WORKLOADS),
                peers_flows.build)


def main():
    start = time.perf_counter()
    peer, workload, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    step = builder(peer, workload, threads)(peer, workload)
    step()
    print("ready", time.perf_counter() - start, *getattr(step, "evaluations", ()), flush=True)
    block(step)
    for _ in sys.stdin:
        print(block(step), flush=True)


if __name__ == "__main__":
    main()
