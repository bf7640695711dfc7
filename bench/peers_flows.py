"""The flows of bench_flows in zuko, nflows and normflows, float32.

What differs from package to package is left as the package has it: scales, permutations, how masks are applied. The
nets have the same layers everywhere; zuko has no residual net for couplings and gets nflows'. There are no linear
layers between the couplings, on no side. Densities and samples are taken in torch.inference_mode, training uses fused
Adam; a training step is -mean log p of one batch, backward, update.
"""
import torch

BATCH, HIDDEN, BINS, BOX = 512, 256, 8, 3.0


def alternating(dim, k):
    return torch.arange(dim) % 2 == k % 2


class WithoutContext(torch.nn.Sequential):
    """A net of two hidden layers that is called with a context of None."""

    def __init__(self, n_in, n_out):
        super().__init__(torch.nn.Linear(n_in, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, HIDDEN),
                         torch.nn.ReLU(), torch.nn.Linear(HIDDEN, n_out))

    def forward(self, x, context=None):
        return super().forward(x)


def residual_net(n_in, n_out):
    from nflows.nn.nets import ResidualNet
    return ResidualNet(n_in, n_out, HIDDEN, num_blocks=2)


class Zuko(torch.nn.Module):
    def __init__(self, family, dim, layers):
        import zuko
        from zuko.flows.coupling import GeneralCouplingTransform
        super().__init__()
        hidden = {"hidden_features": (HIDDEN, HIDDEN)}
        if family in ("maf", "iaf"):
            self.flow = zuko.flows.MAF(dim, transforms=layers, **hidden)
            if family == "iaf":
                base, transforms = self.flow.base, self.flow.transform.transforms
                self.flow = zuko.lazy.Flow([zuko.lazy.LazyInverse(t) for t in transforms], base)
        elif family == "nsf-ar":
            self.flow = zuko.flows.NSF(dim, transforms=layers, bins=BINS, **hidden)
        elif family == "realnvp":
            self.flow = zuko.flows.RealNVP(dim, transforms=layers, **hidden)
        else:
            shapes = [(BINS,), (BINS,), (BINS - 1,)]
            transforms = []
            for k in range(layers):
                passed = alternating(dim, k)
                t = GeneralCouplingTransform(dim, 0, passed, zuko.transforms.MonotonicRQSTransform, shapes, **hidden)
                t.hyper = residual_net(int(passed.sum()), int((~passed).sum()) * (3 * BINS - 1))
                transforms.append(t)
            self.flow = zuko.lazy.Flow(transforms, zuko.flows.MAF(dim, transforms=1).base)

    def log_prob(self, x):
        return self.flow().log_prob(x)

    def sample(self, n):
        return self.flow().sample((n,))

    def sample_with_log_prob(self, n):
        return self.flow().rsample_and_log_prob((n,))


def nflows_model(family, dim, layers):
    import nflows.transforms as tr
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow
    transforms = []
    for k in range(layers):
        if family in ("maf", "iaf"):
            t = tr.MaskedAffineAutoregressiveTransform(dim, HIDDEN, num_blocks=1, use_residual_blocks=False)
            transforms += [tr.InverseTransform(t) if family == "iaf" else t, tr.ReversePermutation(dim)]
        elif family == "nsf-ar":
            transforms += [tr.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
                dim, HIDDEN, num_bins=BINS, tails="linear", tail_bound=BOX, num_blocks=1, use_residual_blocks=False),
                tr.ReversePermutation(dim)]
        elif family == "realnvp":
            transforms.append(tr.AffineCouplingTransform(alternating(dim, k).int(), WithoutContext))
        else:
            transforms.append(tr.PiecewiseRationalQuadraticCouplingTransform(
                alternating(dim, k).int(), residual_net, num_bins=BINS, tails="linear", tail_bound=BOX))
    return Flow(tr.CompositeTransform(transforms), StandardNormal([dim]))


class Nflows(torch.nn.Module):
    def __init__(self, family, dim, layers):
        super().__init__()
        self.flow = nflows_model(family, dim, layers)

    def log_prob(self, x):
        return self.flow.log_prob(x)

    def sample(self, n):
        return self.flow.sample(n)

    def sample_with_log_prob(self, n):
        return self.flow.sample_and_log_prob(n)


class Normflows(torch.nn.Module):
    def __init__(self, family, dim, layers):
        import normflows as nf
        from normflows.flows.neural_spline.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressive
        from normflows.flows.neural_spline.coupling import PiecewiseRationalQuadraticCoupling
        super().__init__()
        flows = []
        for k in range(layers):
            if family in ("maf", "iaf"):
                t = nf.flows.MaskedAffineAutoregressive(dim, HIDDEN, num_blocks=1, use_residual_blocks=False)
                flows.append(t if family == "iaf" else nf.flows.base.Reverse(t))
            elif family == "nsf-ar":
                flows.append(nf.flows.base.Reverse(MaskedPiecewiseRationalQuadraticAutoregressive(
                    dim, HIDDEN, num_bins=BINS, tails="linear", tail_bound=BOX, num_blocks=1,
                    use_residual_blocks=False)))
            elif family == "realnvp":
                net = nf.nets.MLP([dim // 2, HIDDEN, HIDDEN, 2 * (dim - dim // 2)])
                flows += [nf.flows.AffineCouplingBlock(net), nf.flows.Permute(dim, mode="swap")]
            else:
                flows.append(nf.flows.base.Reverse(PiecewiseRationalQuadraticCoupling(
                    alternating(dim, k).int(), residual_net, num_bins=BINS, tails="linear", tail_bound=BOX)))
        self.flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(dim, trainable=False), flows)

    def log_prob(self, x):
        return self.flow.log_prob(x)

    def sample(self, n):
        return self.flow.sample(n)[0]

    def sample_with_log_prob(self, n):
        return self.flow.sample(n)


SHAPES = {"maf": (63, 5), "nsf-ar": (21, 5), "nsf-coupling": (21, 10), "realnvp": (64, 10), "iaf": (64, 5)}
PEERS = {"zuko": Zuko, "nflows": Nflows, "normflows": Normflows}


def training_step(flow, loss):
    """A step of Adam on the flow's parameters, for a loss that is computed anew."""
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-4, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return step


def build(peer, workload):
    package, _, compiled = peer.partition("-")
    family, _, what = workload.rpartition("-")
    dim, layers = SHAPES[family]
    torch.set_flush_denormal(True)
    flow = PEERS[package](family, dim, layers)
    x = torch.randn(BATCH, dim)
    call = {"sample": lambda: flow.sample(BATCH) if family != "iaf" else flow.sample_with_log_prob(BATCH),
            "density": lambda: flow.log_prob(x), "train": lambda: -flow.log_prob(x).mean()}[what]
    if compiled:
        call = torch.compile(call)
    if what != "train":
        return torch.inference_mode()(call)
    return training_step(flow, call)
