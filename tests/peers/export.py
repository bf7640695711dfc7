"""Writes the reference vectors beside this file: small flows of other packages, and what they compute.

    python3 -m venv ~/nflow-peers && ~/nflow-peers/bin/pip install torch normflows zuko nflows flowjax torchdiffeq
    ~/nflow-peers/bin/python tests/peers/export.py            (or with names of files to be written: spline-zuko)

One JSON file a flow. Its layers are told as nflow builds them, from the base to the target, and `theta` is the whole
chain's parameters in nflow's layout; `x`, `ctx` and `log_prob` are points and their log-density, `z`, `z_ctx` and
`sample` noise and where the flow takes it. Everything is computed in double precision. Weights are multiples of 1/128,
so that the float build reads them exactly.

A masked net's units are sorted by degree, and only weights between connected units are kept. Where a package gives a
degree fewer units than nflow does, the net is written with more units, whose weights are 0.
"""
import importlib.metadata
import json
import math
import pathlib
import sys
import zlib

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
POINTS = 16
BOX, BINS, MIN_SLOPE = 3.0, 5, 1e-3  # of the splines
SLOPE_ONE = math.log(math.exp(1 - MIN_SLOPE) - 1)  # softplus(SLOPE_ONE) + MIN_SLOPE = 1
random = None  # a generator, a new one for each flow


def grid(a, steps=128):
    return np.round(np.asarray(a, dtype=float) * steps) / steps


def randomise(module, gain=1.0):
    """Weights of standard deviation gain / sqrt(fan in), biases of 0.3, all on the grid; nothing stays as it starts."""
    with torch.no_grad():
        for p in module.parameters():
            fan_in = math.prod(p.shape[1:])
            scale = gain / math.sqrt(fan_in) if fan_in > 1 else 0.3
            p.copy_(torch.as_tensor(grid(random.standard_normal(tuple(p.shape)) * scale)))


def calm(last):
    """Smaller scales and shifts, so that three layers of them stay moderate."""
    with torch.no_grad():
        for p in last.parameters():
            p.mul_(0.25)


def array(t):
    return t.detach().numpy()


# ---- nets in nflow's layout ----------------------------------------------------------------------------------------


def dense(linear):
    """W [out x in] row-major, b."""
    return [array(linear.weight).ravel(), array(linear.bias)]


def mlp(linears):
    return [a for linear in linears for a in dense(linear)]


def rows(linear, order, scale=None, shift=None):
    """A layer's copy with rows put in order, scaled and its biases shifted."""
    w, b = array(linear.weight)[order], array(linear.bias)[order]
    if scale is not None:
        w, b = w * scale[:, None], b * scale
    if shift is not None:
        b = b + shift
    out = torch.nn.Linear(w.shape[1], w.shape[0])
    with torch.no_grad():
        out.weight.copy_(torch.from_numpy(w))
        out.bias.copy_(torch.from_numpy(b))
    return out


def residual(net, last):
    """nflows' and normflows' ResidualNet: first layer, blocks (the gate's layer, then two more), last layer."""
    out = dense(net.initial_layer)
    for block in net.blocks:
        if hasattr(block, "context_layer"):
            out += dense(block.context_layer)
        out += mlp(block.linear_layers)
    return out + dense(last)


class Masked:
    """The units of a masked net in nflow's order: counts[d] units of degree first + d."""

    def __init__(self, dim, n_ctx, per_dim, degrees):
        self.dim, self.n_ctx, self.per_dim = dim, n_ctx, per_dim
        self.first = 0 if n_ctx or dim == 1 else 1
        n = dim - self.first
        theirs = [int((degrees == self.first + d).sum()) for d in range(n)]
        assert sum(theirs) == len(degrees)
        self.hidden = next(h for h in range(1, 1000)
                           if all(h // n + (d < h % n) >= theirs[d] for d in range(n)))
        counts = [self.hidden // n + (d < self.hidden % n) for d in range(n)]
        starts = np.cumsum([0] + counts)
        self.degree = np.repeat(np.arange(n) + self.first, counts)
        seen = [0] * n
        self.place = np.empty(len(degrees), dtype=int)  # of each of their units
        for k, d in enumerate(degrees):
            self.place[k] = starts[d - self.first] + seen[d - self.first]
            seen[d - self.first] += 1

    def emit(self, w, b, seen):
        """Unmasked weights row after row, then biases. w [out x in], seen [out x in] bool."""
        assert not np.any(w[~seen]), "a weight that nflow does not have"
        return [w[seen], b]

    def initial(self, w, b, wc=None):
        """w [units x dim] in order of rank; wc [units x n_ctx]."""
        full, bias = np.zeros((self.hidden, self.dim + self.n_ctx)), np.zeros(self.hidden)
        full[self.place, :self.dim] = w
        if wc is not None:
            full[self.place, self.dim:] = wc
        bias[self.place] = b
        seen = np.ones(full.shape, dtype=bool)
        seen[:, :self.dim] = np.arange(1, self.dim + 1) <= self.degree[:, None]
        return self.emit(full, bias, seen)

    def between(self, w, b):
        full, bias = np.zeros((self.hidden, self.hidden)), np.zeros(self.hidden)
        full[np.ix_(self.place, self.place)] = w
        bias[self.place] = b
        return self.emit(full, bias, self.degree <= self.degree[:, None])

    def gate(self, w, b):
        full, bias = np.zeros((self.hidden, self.n_ctx)), np.zeros(self.hidden)
        full[self.place] = w
        bias[self.place] = b
        return [full.ravel(), bias]

    def last(self, linear):
        """Rows in order of rank, per_dim a dimension."""
        full = np.zeros((self.dim * self.per_dim, self.hidden))
        full[:, self.place] = array(linear.weight)
        out = np.repeat(np.arange(1, self.dim + 1), self.per_dim)
        return self.emit(full, array(linear.bias), self.degree < out[:, None])


def made(net, dim, n_ctx, per_dim, last_order, scale=None, shift=None):
    """
    nflows' and normflows' MADE; last_order, scale and shift are of the last layer's rows. Returns theta and net.

    normflows' residual blocks are gated by the context, as nflow's. Those of nflows add Wc context + bc inside instead:
    Wc is set to 0, bc goes into the bias before it, and nflow's gates are open.
    """
    def weights(layer):
        return array(layer.weight * layer.mask), array(layer.bias)

    units = Masked(dim, n_ctx, per_dim, array(net.initial_layer.degrees))
    w, b = weights(net.initial_layer)
    if n_ctx:
        out = units.initial(w, b + array(net.context_layer.bias), array(net.context_layer.weight))
    else:
        out = units.initial(w, b)
    is_residual, gated = hasattr(net.blocks[0], "linear_layers"), type(net).__module__.startswith("normflows")
    for block in net.blocks:
        layers, gate = [weights(layer) for layer in (block.linear_layers if is_residual else [block.linear])], None
        if is_residual and n_ctx and gated:
            gate = array(block.context_layer.weight), array(block.context_layer.bias)
        elif is_residual and n_ctx:
            with torch.no_grad():
                block.context_layer.weight.zero_()
            layers[0] = layers[0][0], layers[0][1] + array(block.context_layer.bias)
            gate = 0, 64  # sigmoid(64) is 1 in both precisions
        for w, b in layers:
            out += units.between(w, b)
        if gate:
            out += units.gate(*gate)
    with torch.no_grad():
        net.final_layer.weight.mul_(net.final_layer.mask)
    out += units.last(rows(net.final_layer, last_order, scale, shift))
    if is_residual:
        return out, {"kind": "masked_residual", "width": units.hidden, "blocks": len(net.blocks)}
    return out, {"kind": "masked", "hidden": [units.hidden] * (1 + len(net.blocks))}


def masked_mlp(net, features, n_ctx, per_dim):
    """zuko's MaskedMLP, whose columns and rows stand in the dimensions' own order; features[rank] is a dimension."""
    linears = [layer for layer in net if hasattr(layer, "weight")]
    dim, units, out = len(features), None, []
    for layer in linears[:-1]:
        w, b = array(layer.weight * layer.mask), array(layer.bias)
        if units is None:
            degrees = array(layer.mask)[:, :dim].sum(1)
            units = Masked(dim, n_ctx, per_dim, degrees)
            out += units.initial(w[:, features], b, w[:, dim:] if n_ctx else None)
        else:
            assert len(w) == len(degrees)
            out += units.between(w, b)
    with torch.no_grad():
        linears[-1].weight.mul_(linears[-1].mask)
    order = (np.asarray(features)[:, None] * per_dim + np.arange(per_dim)).ravel()
    out += units.last(rows(linears[-1], order))
    return out, {"kind": "masked", "hidden": [units.hidden] * (len(linears) - 1)}


# ---- transforms ----------------------------------------------------------------------------------------------------

SPLINE = {"kind": "spline", "bins": BINS, "bound": BOX, "min_width": 1e-3, "min_height": 1e-3, "min_slope": MIN_SLOPE}


def affine(scale, **more):
    return {"kind": "affine", "scale": scale, **more}


def spline_rows(n, hidden):
    """nflows divides w and h by sqrt(hidden), and its d has slope 1 at SLOPE_ONE, not at 0: (scale, shift) of rows."""
    scale = np.tile(np.repeat([1 / math.sqrt(hidden), 1], [2 * BINS, BINS - 1]), n)
    shift = np.tile(np.repeat([0, -SLOPE_ONE], [2 * BINS, BINS - 1]), n)
    return scale, shift


def spline_gain(last, n, hidden):
    """After randomise(): spread w and h as if undivided, move d to where slope 1 is."""
    scale, shift = spline_rows(n, hidden)
    with torch.no_grad():
        last.weight.mul_(torch.from_numpy(1 / scale)[:, None])
        last.bias.copy_(torch.from_numpy(array(last.bias) / scale - shift))


def swap_pairs(n):
    """Rows (scale, shift) a dimension become (shift, scale)."""
    return np.arange(2 * n).reshape(n, 2)[:, ::-1].ravel()


# ---- flows: each returns (layers and theta from target to base, log_prob(x, ctx), sample(z, ctx)) -------------------


def layer(kind, theta=(), **more):
    return {"layer": kind, **more}, list(theta)


def nflows_flow(dim, transforms):
    import nflows.distributions.normal
    import nflows.flows.base
    import nflows.transforms
    flow = nflows.flows.base.Flow(nflows.transforms.CompositeTransform(transforms),
                                  nflows.distributions.normal.StandardNormal([dim]))
    return flow.log_prob, lambda z, c: flow._transform.inverse(z, c)[0]


def nflows_permutation(order):
    from nflows.transforms.permutations import Permutation
    return Permutation(torch.as_tensor(order)), layer("permutation", order=[int(i) for i in np.argsort(order)])


def nflows_realnvp(dim, n_ctx):
    from nflows.nn.nets import ResidualNet
    from nflows.transforms import AffineCouplingTransform
    transforms, layers = [], []
    for mask in ([1, 0, 0, 1, 1], [0, 1, 1, 0, 0], [1, 0, 1, 0, 1]):
        t = AffineCouplingTransform(mask, lambda i, o: ResidualNet(i, o, 9, n_ctx or None, num_blocks=1))
        randomise(t)
        n, net = sum(mask), t.transform_net
        calm(net.final_layer)
        last = rows(net.final_layer, np.arange(2 * n).reshape(2, n).T.ravel())
        transforms.append(t)
        layers.append(layer("coupling", residual(net, last), mask=mask, invert=True,
                            transform=affine("sigmoid", shift=2, floor=1e-3),
                            net={"kind": "residual", "width": 9, "blocks": 1}))
    return layers, *nflows_flow(dim, transforms)


def positive_context(net):
    """nflows puts a ReLU on the first layer's share of the context: keep it positive, as the context is."""
    if hasattr(net, "context_layer"):
        with torch.no_grad():
            net.context_layer.weight.abs_()
            net.context_layer.bias.abs_()


def nflows_autoregressive(dim, n_ctx, inverse, residual=False):
    from nflows.transforms import InverseTransform, MaskedAffineAutoregressiveTransform
    transforms, layers = [], []
    for k in range(2):
        t = MaskedAffineAutoregressiveTransform(dim, 12, n_ctx or None, num_blocks=1, use_residual_blocks=residual)
        randomise(t)
        net = t.autoregressive_net
        calm(net.final_layer)
        positive_context(net)
        theta, spec = made(net, dim, n_ctx, 2, swap_pairs(dim))
        transforms.append(InverseTransform(t) if inverse else t)
        layers.append(layer("autoregressive", theta, order=list(range(dim)), invert=not inverse,
                            transform=affine("softplus", floor=1e-3), net=spec))
        if k == 0:
            p, description = nflows_permutation([2, 0, 3, 1, 4][:dim])
            transforms.append(p)
            layers.append(description)
    return layers, *nflows_flow(dim, transforms)


def nflows_nsf_coupling(dim, n_ctx):
    from nflows.nn.nets import ResidualNet
    from nflows.transforms import PiecewiseRationalQuadraticCouplingTransform
    transforms, layers = [], []
    for mask in ([0, 1, 0, 1], [1, 0, 1, 1]):
        t = PiecewiseRationalQuadraticCouplingTransform(
            mask, lambda i, o: ResidualNet(i, o, 8, n_ctx or None, num_blocks=2), num_bins=BINS, tails="linear",
            tail_bound=BOX)
        randomise(t)
        layers.append(spline_coupling(t, mask))
        transforms.append(t)
    return layers, *nflows_flow(dim, transforms)


def spline_coupling(t, mask):
    n, net = sum(mask), t.transform_net
    spline_gain(net.final_layer, n, net.hidden_features)
    last = rows(net.final_layer, np.arange(n * (3 * BINS - 1)), *spline_rows(n, net.hidden_features))
    return layer("coupling", residual(net, last), mask=mask, invert=True, transform=SPLINE,
                 net={"kind": "residual", "width": net.hidden_features, "blocks": len(net.blocks)})


def spline_autoregressive(t, dim, n_ctx):
    """Of nflows, whose MADE keeps no hidden_features, so that w and h are not divided; normflows' neither."""
    net, width = t.autoregressive_net, 3 * BINS - 1
    hidden = getattr(net, "hidden_features", 1)
    spline_gain(net.final_layer, dim, hidden)
    theta, spec = made(net, dim, n_ctx, width, np.arange(dim * width), *spline_rows(dim, hidden))
    return layer("autoregressive", theta, order=list(range(dim)), invert=True, transform=SPLINE, net=spec)


def nflows_nsf_autoregressive(dim, n_ctx):
    from nflows.transforms import MaskedPiecewiseRationalQuadraticAutoregressiveTransform
    transforms, layers = [], []
    for k in range(2):
        t = MaskedPiecewiseRationalQuadraticAutoregressiveTransform(dim, 8, n_ctx or None, BINS, "linear", BOX,
                                                                    num_blocks=1)
        randomise(t)
        positive_context(t.autoregressive_net)
        transforms.append(t)
        layers.append(spline_autoregressive(t, dim, n_ctx))
        if k == 0:
            p, description = nflows_permutation(list(range(dim))[::-1])
            transforms.append(p)
            layers.append(description)
    return layers, *nflows_flow(dim, transforms)


def normflows_flow(dim, flows, n_ctx):
    """flows from base to target."""
    import normflows
    base = normflows.distributions.DiagGaussian(dim, trainable=False)
    if n_ctx:
        flow = normflows.ConditionalNormalizingFlow(base, flows)
        return flow.log_prob, lambda z, c: flow.forward(z, c)
    flow = normflows.NormalizingFlow(base, flows)
    return lambda x, c: flow.log_prob(x), lambda z, c: flow.forward(z)


def normflows_planar(dim, n_ctx):
    import normflows
    flows, layers = [normflows.flows.Planar((dim,)) for _ in range(4)], []
    for f in flows:
        randomise(f, 1.5)
        layers.append(layer("planar", [array(f.w), array(f.u), array(f.b)]))

    base = normflows.distributions.DiagGaussian(dim, trainable=False)

    def log_prob(z, c):  # its tanh layers have no inverse: at forward(z)
        total = base.log_prob(z)
        for f in flows:
            z, log_det = f(z)
            total = total - log_det
        return total

    return layers[::-1], log_prob, normflows_flow(dim, flows, 0)[1]


def normflows_residual(dim, n_ctx):
    """The blocks' nets without the activation of their input. sigma is that of converged power iteration, and log-dets
    are exact, which normflows has in two dimensions. Its fixed-point inverse stops early: ours is iterated on."""
    import normflows
    from normflows.nets.lipschitz import InducedNormLinear, Swish
    flows, layers, bound = [], [], 0.9
    for k in range(3):
        linears = [InducedNormLinear(i, o, coeff=bound, n_iterations=5) for i, o in ((dim, 8), (8, 7), (7, dim))]
        units = [Swish() for _ in range(2)]
        for m in linears:
            randomise(m, 1.5 - 0.5 * k)
        for u in units:
            randomise(u)
        net = torch.nn.Sequential(linears[0], units[0], linears[1], units[1], linears[2])
        for m in linears:
            m.compute_weight(update=True, n_iterations=3000)
        flow = normflows.flows.Residual(net, reduce_memory=False).eval()
        flows.append(flow)
        theta = []
        for m, u in zip(linears, units + [None]):
            theta += dense(m) + ([array(u.beta).ravel()] if u else [])
        layers.append(layer("residual", [np.concatenate(theta)], invert=True, bound=bound,
                            net={"kind": "mlp", "hidden": [8, 7], "activation": "lipswish"}))

    def sample(z, c):
        for f in flows:
            x = z
            for _ in range(3000):
                x = z - f.iresblock.nnet(x)
            z = x
        return z

    return layers[::-1], normflows_flow(dim, flows, 0)[0], sample


def normflows_realnvp(dim, n_ctx):
    import normflows
    flows, layers = [], []
    for k in range(3):
        net = normflows.nets.MLP([dim // 2, 8, 8, 2 * (dim - dim // 2)], leaky=0.01)
        randomise(net)
        calm(net.net[-1])
        flows += [normflows.flows.AffineCouplingBlock(net), normflows.flows.Permute(dim, mode="swap")]
        mask = [0] * (dim // 2) + [1] * (dim - dim // 2)
        linears = [m for m in net.net if hasattr(m, "weight")]
        layers += [layer("coupling", mlp(linears), mask=mask, invert=False, transform=affine("exp"),
                         net={"kind": "mlp", "hidden": [8, 8], "activation": "leaky_relu"}),
                   layer("permutation", order=list(range(dim // 2, dim)) + list(range(dim // 2)))]
    return layers[::-1], *normflows_flow(dim, flows, 0)


def normflows_iaf(dim, n_ctx):
    import normflows
    flows, layers = [], []
    for k in range(2):
        t = normflows.flows.MaskedAffineAutoregressive(dim, 9, context_features=n_ctx or None, num_blocks=1)
        randomise(t)
        calm(t.autoregressive_net.final_layer)
        theta, spec = made(t.autoregressive_net, dim, n_ctx, 2, swap_pairs(dim))
        flows.append(t)
        layers.append(layer("autoregressive", theta, order=list(range(dim)), invert=False,
                            transform=affine("sigmoid", shift=2, floor=1e-3), net=spec))
    return layers[::-1], *normflows_flow(dim, flows, n_ctx)


def normflows_nsf_coupling(dim, n_ctx):
    from normflows.flows.neural_spline.coupling import PiecewiseRationalQuadraticCoupling
    from normflows.flows.base import Reverse
    from normflows.nets import ResidualNet
    flows, layers = [], []
    for mask in ([1, 1, 0], [0, 0, 1], [1, 0, 0]):
        t = PiecewiseRationalQuadraticCoupling(
            torch.tensor(mask), lambda i, o: ResidualNet(i, o, 8, n_ctx or None, num_blocks=1), num_bins=BINS,
            tails="linear", tail_bound=BOX)
        randomise(t)
        flows.append(Reverse(t))
        layers.append(spline_coupling(t, mask))
    return layers[::-1], *normflows_flow(dim, flows, n_ctx)


def normflows_nsf_autoregressive(dim, n_ctx):
    from normflows.flows import AutoregressiveRationalQuadraticSpline
    flows, layers = [], []
    for k in range(2):
        t = AutoregressiveRationalQuadraticSpline(dim, 1, 8, n_ctx or None, BINS, BOX)
        randomise(t)
        flows.append(t)
        layers.append(spline_autoregressive(t.mprqat, dim, n_ctx))
    return layers[::-1], *normflows_flow(dim, flows, n_ctx)


def zuko_flow(dim, transforms):
    import zuko
    base = zuko.lazy.UnconditionalDistribution(zuko.distributions.DiagNormal, torch.zeros(dim), torch.ones(dim),
                                               buffer=True)
    flow = zuko.lazy.Flow(transforms, base)
    return lambda x, c: flow(c).log_prob(x), lambda z, c: flow(c).transform.inv(z)


SOFT_CLIP = affine("soft_clip", bound=-math.log(1e-3))


def zuko_realnvp(dim, n_ctx):
    from zuko.flows.coupling import GeneralCouplingTransform
    transforms, layers = [], []
    for passed in ([0, 1, 0, 0, 1, 1], [1, 0, 1, 1, 0, 0]):
        t = GeneralCouplingTransform(dim, n_ctx, torch.tensor(passed), hidden_features=[8, 8])
        randomise(t)
        calm(t.hyper[-1])
        linears = [m for m in t.hyper if hasattr(m, "weight")]
        transforms.append(t)
        layers.append(layer("coupling", mlp(linears), mask=[1 - p for p in passed], invert=True, transform=SOFT_CLIP,
                            net={"kind": "mlp", "hidden": [8, 8]}))
    return layers, *zuko_flow(dim, transforms)


def zuko_autoregressive(dim, n_ctx, inverse):
    from zuko.flows.autoregressive import MaskedAutoregressiveTransform
    from zuko.lazy import LazyInverse
    transforms, layers = [], []
    for features in ([2, 0, 3, 1], [1, 3, 2, 0]):  # features[rank]: the dimension that comes there
        t = MaskedAutoregressiveTransform(dim, n_ctx, order=torch.tensor(np.argsort(features)),
                                          hidden_features=[3 * dim, 3 * dim])
        randomise(t)
        calm(t.hyper[-1])
        theta, spec = masked_mlp(t.hyper, features, n_ctx, 2)
        transforms.append(LazyInverse(t) if inverse else t)
        layers.append(layer("autoregressive", theta, order=features, invert=not inverse, transform=SOFT_CLIP, net=spec))
    return layers, *zuko_flow(dim, transforms)


def zuko_spline(dim, n_ctx):
    """One elementwise spline. zuko's w, h, d stand for other widths, heights and slopes: those are handed over."""
    from zuko.flows.gaussianization import ElementWiseTransform
    from zuko.transforms import MonotonicRQSTransform
    t = ElementWiseTransform(dim, 0, lambda w, h, d: MonotonicRQSTransform(w, h, d, bound=BOX),
                             [(BINS,), (BINS,), (BINS - 1,)])
    randomise(t, 3)
    theta = []
    for p in zip(*t.phi):
        made_of = MonotonicRQSTransform(*p, bound=BOX)
        for knots in (made_of.horizontal, made_of.vertical):
            shares = np.diff(array(knots)) / (2 * BOX)
            theta.append(np.log((shares - 1e-3) / (1 - 1e-3 * BINS)))
        slopes = array(made_of.derivatives)[1:-1]
        theta.append(np.log(np.expm1(slopes - MIN_SLOPE)) - SLOPE_ONE)
    return [layer("spline", theta, invert=True, transform=SPLINE)], *zuko_flow(dim, [t])


def zuko_elementwise(dim, n_ctx, layers, transform):
    """A flow of one transform, transform(context), from the target to the base."""
    base = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(dim), torch.ones(dim)), 1)

    def log_prob(x, c):
        z, log_det = transform(c).call_and_ladj(x)
        return base.log_prob(z) + log_det.sum(-1)

    return layers, log_prob, lambda z, c: transform(c).inv(z)


def zuko_sos_polynomial(dim, n_ctx):
    from zuko.transforms import AdditiveTransform, ComposedTransform, SOSPolynomialTransform
    polynomials, degree = 3, 4
    a = torch.from_numpy(grid(random.standard_normal((dim, polynomials, degree + 1)) * 0.5))
    c = torch.from_numpy(grid(random.standard_normal(dim)))
    spec = {"kind": "sos_polynomial", "polynomials": polynomials, "degree": degree, "bound": 10.0, "min_slope": MIN_SLOPE}
    theta = [np.concatenate([array(a[i]).ravel(), array(c[i:i + 1])]) for i in range(dim)]
    return zuko_elementwise(dim, n_ctx, [layer("sos_polynomial", theta, invert=True, transform=spec)],
                            lambda ctx: ComposedTransform(SOSPolynomialTransform(a, slope=MIN_SLOPE, eps=1e-13),
                                                          AdditiveTransform(c)))


def zuko_monotone_net(dim, n_ctx):
    """The context of a feature: the shift, then the signal of the integrand."""
    from zuko.transforms import AdditiveTransform, ComposedTransform, UnconstrainedMonotonicTransform
    signal = n_ctx // dim - 1
    net = torch.nn.Sequential(torch.nn.Linear(1 + signal, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    randomise(net)

    def transform(ctx):
        ctx = ctx.reshape(-1, dim, 1 + signal)

        def g(t):
            z = net(torch.cat([t[..., None], ctx[..., 1:].expand(*t.shape, signal)], dim=-1))
            return torch.nn.functional.softplus(z).squeeze(-1) + MIN_SLOPE

        return ComposedTransform(UnconstrainedMonotonicTransform(g, n=32, eps=1e-13), AdditiveTransform(ctx[..., 0]))

    spec = {"kind": "mlp", "hidden": [8], "activation": "tanh"}
    return zuko_elementwise(dim, n_ctx, [layer("monotone_net", mlp([net[0], net[2]]), invert=True, net=spec,
                                               nodes=32, min_slope=MIN_SLOPE)], transform)


class ConcatSquash(torch.nn.Module):
    """A layer of the code of FFJORD (Grathwohl et al. 2019), whose gate and bias read the context as they read t."""

    def __init__(self, inputs, outputs, n_ctx):
        super().__init__()
        self.value = torch.nn.Linear(inputs, outputs)
        self.gate = torch.nn.Linear(1 + n_ctx, outputs)
        self.shift = torch.nn.Linear(1 + n_ctx, outputs, bias=False)

    def forward(self, h, c):
        return self.value(h) * torch.sigmoid(self.gate(c)) + self.shift(c)

    def theta(self):
        return dense(self.value) + dense(self.gate) + [array(self.shift.weight).ravel()]


def torchdiffeq_ffjord(dim, n_ctx, squash):
    from torchdiffeq import odeint
    if squash:
        first, last = ConcatSquash(dim, 8, n_ctx), ConcatSquash(8, dim, n_ctx)
        spec = {"kind": "squash", "hidden": [8]}
    else:
        first, last = torch.nn.Linear(dim + 1 + n_ctx, 8), torch.nn.Linear(8, dim)
        spec = {"kind": "mlp", "hidden": [8], "activation": "tanh"}
    randomise(first)
    randomise(last)
    theta = first.theta() + last.theta() if squash else mlp([first, last])

    def field(z, c):
        if squash:
            return last(torch.tanh(first(z, c)), c)
        return last(torch.tanh(first(torch.cat([z, c], dim=-1))))

    def solve(x, ctx, times):
        ctx = x.new_zeros(len(x), 0) if ctx is None else ctx

        def derivatives(t, state):
            c = torch.cat([t.expand(len(x), 1), ctx], dim=-1)
            with torch.enable_grad():
                z = state[0].detach().requires_grad_()
                f = field(z, c)
                trace = sum(torch.autograd.grad(f[:, i].sum(), z, retain_graph=True)[0][:, i] for i in range(dim))
            return f.detach(), trace.detach()

        z, l = odeint(derivatives, (x, x.new_zeros(len(x))), torch.tensor(times), rtol=1e-12, atol=1e-12, method="dopri5")
        return z[-1], l[-1]

    def log_prob(x, ctx):
        z, l = solve(x, ctx, [1.0, 0.0])
        return torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1) + l

    return [layer("continuous", theta, net=spec)], log_prob, lambda z, ctx: solve(z, ctx, [0.0, 1.0])[0]


def flowjax_planar(dim, n_ctx):
    """FlowJAX bounds w.u another way than the paper: handed over is the u that gives the same u^."""
    import jax
    jax.config.update("jax_enable_x64", True)
    import flowjax.bijections
    import jax.numpy as jnp
    bijections, layers = [], []
    for k in range(3):
        w, u, b = (grid(random.standard_normal(n)) for n in (dim, dim, 1))
        bijections.append(flowjax.bijections.planar._UnconditionalPlanar(jnp.array(w), jnp.array(u), jnp.array(b[0])))
        u_hat = np.asarray(bijections[-1].get_act_scale())
        ours = np.log(np.expm1(1 + w @ u_hat))  # m(ours) = w.u^
        layers.append(layer("planar", [w, u_hat + (ours - w @ u_hat) * w / (w @ w), b]))
    chain = flowjax.bijections.Chain(bijections)
    both = jax.vmap(chain.transform_and_log_det)

    def log_prob(z, c):
        z = jnp.array(array(z))
        return torch.from_numpy(np.array(-0.5 * (z * z).sum(1) - 0.5 * dim * math.log(2 * math.pi) - both(z)[1]))

    return layers[::-1], log_prob, lambda z, c: torch.from_numpy(np.array(both(jnp.array(array(z)))[0]))


# ---- images: [channels][height][width] ------------------------------------------------------------------------------


def channels_last(weight):
    """A convolution's weight [out][in][k][k] as nflow has it, [out][k][k][in]."""
    return array(weight).transpose(0, 2, 3, 1)


def normflows_image(flow, image):
    """An image flow of normflows, of its base a standard normal."""
    def shaped(x):
        return x.reshape(len(x), *image)

    def log_prob(x, c):
        z, log_det = flow.inverse(shaped(x))
        return torch.distributions.Normal(0.0, 1.0).log_prob(z.reshape(len(x), -1)).sum(-1) + log_det

    return log_prob, lambda z, c: flow.forward(shaped(z))[0].reshape(len(z), -1)


def normflows_convolution(dim, n_ctx):
    """Glow's 1x1 convolution by LU: theirs is from the image to the base, P L (U + diag(sign exp(s)))."""
    import normflows
    channels, pixels = 3, dim // 3
    f = normflows.flows.Invertible1x1Conv(channels, use_lu=True)
    order = [1, 2, 0]
    with torch.no_grad():
        f.P.copy_(torch.eye(channels)[order])
        f.sign_S.fill_(1)
    randomise(f)
    lower, upper = array(f.L), array(f.U)
    theta = [lower[np.tril_indices(channels, -1)], upper[np.triu_indices(channels, 1)], array(f.log_S), np.zeros(channels)]
    spec = layer("convolution", theta, channels=channels, pixels=pixels, order=order, invert=True)
    return [spec], *normflows_image(f, (channels, pixels // 2, 2))


def normflows_glow(dim, n_ctx):
    """Glow of two levels of two steps, from the base on; W of its 1x1 convolutions is from the base to the image."""
    import normflows
    image, levels, steps, hidden = (1, 8, 4), 2, 2, 5
    flows, theta = [], []
    for level in range(levels):  # from the image on
        c = image[0] * 2 ** (level + 2)
        blocks, numbers_of_level = [], []
        for k in range(steps):
            block = normflows.flows.GlowBlock(c, hidden, scale=True, scale_map="exp", use_lu=False, init_zeros=False)
            randomise(block)
            coupling, mix, norm = block.flows
            norm.data_dep_init_done.fill_(1)
            convolutions = [m for m in coupling.flows[1].param_map.net if hasattr(m, "weight")]
            assert len(convolutions) == 3
            calm(convolutions[-1])
            with torch.no_grad():
                for p in norm.parameters():
                    p.mul_(0.5)
            for m in convolutions:
                numbers_of_level += [channels_last(m.weight), array(m.bias)]
            low, up, s = (grid(random.standard_normal(n) * 0.3) for n in (c * (c - 1) // 2, c * (c - 1) // 2, c))
            l, u = np.eye(c), np.diag(np.exp(s))
            l[np.tril_indices(c, -1)], u[np.triu_indices(c, 1)] = low, up
            with torch.no_grad():
                mix.W.copy_(torch.from_numpy(np.linalg.inv(l @ u)))
            numbers_of_level += [low, up, s, np.zeros(c), array(norm.t).ravel(), array(norm.s).ravel()]
            blocks.append(block)
        flows.append(blocks)
        theta = numbers_of_level + theta  # the deepest level is nearest to the base
    spec = layer("glow", theta, image=list(image), levels=levels, steps=steps, hidden=[hidden, hidden])

    class Levels:
        def forward(self, z):
            c, h, w = image[0] * 2 ** levels * 2, image[1] >> levels, image[2] >> levels
            at, x = c * h * w, z.reshape(len(z), -1)
            latent, log_det = x[:, :at].reshape(-1, c, h, w), 0
            for level in reversed(range(levels)):
                if level + 1 < levels:
                    rest = x[:, at:at + latent[0].numel()].reshape(latent.shape)
                    at += rest[0].numel()
                    latent, _ = normflows.flows.Merge()([latent, rest])
                for f in (*flows[level], normflows.flows.Squeeze()):
                    latent, d = f.forward(latent)
                    log_det = log_det + d
            return latent, log_det

        def inverse(self, x):
            out, log_det = [], 0
            for level in range(levels):
                for f in (normflows.flows.Squeeze(), *flows[level][::-1]):
                    x, d = f.inverse(x)
                    log_det = log_det + d
                if level + 1 < levels:
                    (x, rest), _ = normflows.flows.Merge().inverse(x)
                    out.append(rest)
            return torch.cat([a.flatten(1) for a in [x, *out[::-1]]], dim=1), log_det

    return [spec], *normflows_image(Levels(), image)


class ResidualConvolutions(torch.nn.Module):
    """The nets of Real NVP on some pixels of an image: flat features in, flat features out."""

    def __init__(self, image, outputs, pixels_in, pixels_out, hidden):
        super().__init__()
        self.image, self.pixels_in, self.pixels_out = image, pixels_in, pixels_out
        self.layers = torch.nn.ModuleList([torch.nn.Conv2d(i, o, 3, padding=1) for i, o in
                                           [(image[0], hidden), (hidden, hidden), (hidden, hidden), (hidden, outputs)]])

    def forward(self, x, context=None):
        c, h, w = self.image
        full = x.new_zeros(len(x), c, h * w)
        full[:, :, self.pixels_in] = x.reshape(len(x), c, -1)
        z = self.layers[0](full.reshape(-1, c, h, w))
        z = z + self.layers[2](torch.relu(self.layers[1](torch.relu(z))))
        out = self.layers[3](torch.relu(z))
        return out.flatten(2)[:, :, self.pixels_out].flatten(1)

    def theta(self):
        return [a for m in self.layers for a in (channels_last(m.weight), array(m.bias))]


def nflows_image_coupling(image, board, k, hidden):
    """Coupling k over a checkerboard or of channels: nflows' affine coupling of flat features, and its theta."""
    from nflows.transforms import AffineCouplingTransform, InverseTransform
    c, h, w = image
    odd = np.add.outer(np.arange(h), np.arange(w)).ravel() % 2 == 1
    if board:
        changed = odd if k % 2 == 0 else ~odd
        mask, inputs, outputs = np.tile(changed, c), image, 2 * c
        places = np.flatnonzero(~changed), np.flatnonzero(changed)
    else:
        changed = (np.arange(c) >= c // 2) == (k % 2 == 0)
        mask, inputs, outputs = np.repeat(changed, h * w), (c // 2, h, w), c
        places = np.arange(h * w), np.arange(h * w)
    net = ResidualConvolutions(inputs, outputs, *places, hidden)
    t = AffineCouplingTransform(mask.astype(int), lambda i, o: net)
    randomise(t)
    with torch.no_grad():
        for m in net.layers:
            m.weight.mul_(0.5)
    theta = net.theta()
    in_turn = np.arange(outputs).reshape(2, -1).T.ravel()  # theirs: shifts, then scales; ours: in turn
    theta[-2], theta[-1] = theta[-2][in_turn], theta[-1][in_turn]
    return InverseTransform(t), theta


def nflows_realnvp_image(dim, n_ctx):
    """Real NVP of one level, then the last scale. Everything goes from the base to the image."""
    from nflows.transforms import ActNorm
    image, steps, hidden = (1, 4, 6), 2, 4
    c, h, w = image
    squeezed, half = (4 * c, h // 2, w // 2), (2 * c, h // 2, w // 2)
    theta = []

    def couplings(image, board, n):
        made = []
        for k in range(n):
            f, numbers_of_net = nflows_image_coupling(image, board, k, hidden)
            norm = ActNorm(image[0])
            randomise(norm)
            norm.initialized.fill_(True)
            theta.extend(numbers_of_net + [array(norm.shift), array(norm.log_scale)])
            made.append((f, norm, image))
        return made

    last, channels, boards = couplings(half, True, steps + 1), couplings(squeezed, False, steps), couplings(image, True, steps)

    def go(made, x, forward):
        """From the base to the image, where nflows' layers go inverse; or back."""
        total = 0
        for f, norm, shape in made if forward else made[::-1]:
            if forward:
                x, d = f.inverse(x)
                x, e = norm.forward(x.reshape(-1, *shape))
            else:
                x, e = norm.inverse(x.reshape(-1, *shape))
                x, d = f.forward(x.flatten(1))
            x, total = x.flatten(1), total + d + e
        return x, total

    class Levels:
        def forward(self, z):
            z = z.flatten(1)
            n = dim // 2
            a, d = go(last, z[:, :n], True)
            x, e = go(channels, torch.cat([a, z[:, n:]], 1), True)
            x = x.reshape(-1, c, 2, 2, h // 2, w // 2).permute(0, 1, 4, 2, 5, 3).flatten(1)
            x, g = go(boards, x, True)
            return x, d + e + g

        def inverse(self, x):
            x, d = go(boards, x.flatten(1), False)
            x = x.reshape(-1, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).flatten(1)
            x, e = go(channels, x, False)
            a, g = go(last, x[:, :dim // 2], False)
            return torch.cat([a, x[:, dim // 2:]], 1), d + e + g

    spec = layer("realnvp_image", theta, image=list(image), levels=1, steps=steps, hidden=[hidden], blocks=1,
                 scale=affine("sigmoid", shift=2, floor=1e-3))
    return [spec], *normflows_image(Levels(), image)


# ---- files ---------------------------------------------------------------------------------------------------------

FLOWS = [  # package, family, dim, n_ctx, builder
    ("normflows", "planar", 3, 0, normflows_planar),
    ("flowjax", "planar", 5, 0, flowjax_planar),
    ("normflows", "residual", 2, 0, normflows_residual),
    ("zuko", "spline", 3, 0, zuko_spline),
    ("zuko", "sos_polynomial", 3, 0, zuko_sos_polynomial),
    ("zuko", "monotone_net", 2, 6, zuko_monotone_net),
    ("torchdiffeq", "ffjord", 3, 2, lambda d, c: torchdiffeq_ffjord(d, c, True)),
    ("torchdiffeq", "ffjord_concat", 2, 0, lambda d, c: torchdiffeq_ffjord(d, c, False)),
    ("nflows", "realnvp", 5, 2, nflows_realnvp),
    ("zuko", "realnvp", 6, 3, zuko_realnvp),
    ("normflows", "realnvp", 4, 0, normflows_realnvp),
    ("nflows", "maf", 4, 2, lambda d, c: nflows_autoregressive(d, c, False)),
    ("nflows", "maf_residual", 4, 2, lambda d, c: nflows_autoregressive(d, c, False, residual=True)),
    ("zuko", "maf", 4, 0, lambda d, c: zuko_autoregressive(d, c, False)),
    ("nflows", "iaf", 5, 0, lambda d, c: nflows_autoregressive(d, c, True)),
    ("zuko", "iaf", 4, 2, lambda d, c: zuko_autoregressive(d, c, True)),
    ("normflows", "iaf", 4, 2, normflows_iaf),
    ("nflows", "nsf_coupling", 4, 2, nflows_nsf_coupling),
    ("normflows", "nsf_coupling", 3, 0, normflows_nsf_coupling),
    ("nflows", "nsf_autoregressive", 4, 0, nflows_nsf_autoregressive),
    ("nflows", "nsf_autoregressive_context", 3, 2, nflows_nsf_autoregressive),
    ("normflows", "nsf_autoregressive", 3, 2, normflows_nsf_autoregressive),
    ("normflows", "convolution", 12, 0, normflows_convolution),
    ("normflows", "glow", 32, 0, normflows_glow),
    ("nflows", "realnvp_image", 24, 0, nflows_realnvp_image),
]


def points(dim, spread, splines):
    """Points on a grid; for splines some are in the tails, on the box's edge and just inside it."""
    x = grid(random.standard_normal((POINTS, dim)) * spread, 1024)
    if not splines:
        return x
    x[0, 0], x[1, -1], x[2, 1], x[3, 0], x[4, 1] = BOX, -BOX, BOX + 1 / 1024, -BOX + 1 / 1024, -17.25
    x[5] = 4 + np.arange(dim)  # wholly in the tails
    x[6] = 0
    return x


def context(n):
    """Positive, see positive_context."""
    return grid(np.abs(random.standard_normal((POINTS, n))), 1024) if n else None


def numbers(a):
    """Nested lists with as few digits as give the same number."""
    if a.ndim:
        return "[" + ",".join(numbers(b) for b in a) + "]"
    return repr(int(a)) if float(a) == int(a) else repr(float(a))


def write(package, family, dim, n_ctx, build):
    global random
    random = np.random.default_rng(zlib.crc32(f"{family}-{package}".encode()))
    torch.manual_seed(1)
    layers, log_prob, sample = build(dim, n_ctx)
    layers = layers[::-1]  # from base to target
    splines = family[:3] in ("nsf", "spl")
    x, z = points(dim, 1.5, splines), points(dim, 1, splines)
    ctx, z_ctx = context(n_ctx), context(n_ctx)

    def tensor(a):
        return None if a is None else torch.from_numpy(a)

    with torch.no_grad():
        y = array(sample(tensor(z), tensor(z_ctx)))
        lp = array(log_prob(tensor(z if family == "planar" else x), tensor(ctx)))
    if family == "planar":  # scored where it samples
        x = y
    theta = np.concatenate([np.ravel(a) for _, parts in layers for a in parts])
    assert np.isfinite(theta).all() and np.isfinite(lp).all() and np.isfinite(y).all()
    fields = [("package", json.dumps(f"{package} {importlib.metadata.version(package)}")), ("family", json.dumps(family)),
              ("dim", str(dim)), ("n_ctx", str(n_ctx)),
              ("layers", "[\n  " + ",\n  ".join(json.dumps(d) for d, _ in layers) + "]"),
              ("theta", numbers(theta)), ("x", numbers(x)), ("log_prob", numbers(lp)), ("z", numbers(z)),
              ("sample", numbers(y))]
    if n_ctx:
        fields += [("ctx", numbers(ctx)), ("z_ctx", numbers(z_ctx))]
    path = HERE / f"{family}-{package}.json"
    text = "{" + ",\n ".join(f'"{name}": {value}' for name, value in fields) + "}\n"
    json.loads(text)
    path.write_text(text, encoding="utf-8")
    print(f"{path.name:34} {len(theta):6} parameters {len(text):7} bytes   log p {lp.min():9.2f} to {lp.max():7.2f}, "
          f"samples to {np.abs(y).max():.1f}")


def main():
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    for flow in FLOWS:
        if len(sys.argv) < 2 or f"{flow[1]}-{flow[0]}" in sys.argv[1:]:
            write(*flow)


if __name__ == "__main__":
    main()
