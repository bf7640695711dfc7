"""Writes the state dicts in the folder import beside this file, and what their flows compute.

    python3 -m venv ~/nflow-peers && ~/nflow-peers/bin/pip install torch normflows zuko nflows safetensors
    ~/nflow-peers/bin/python tests/peers/export_state.py            (or with names of files to be written: zuko-maf)

Of each flow NAME.safetensors is its state dict as users save it, in single precision; NAME.json has `x`, `ctx` and
`log_prob`, points and their log-density, and `z`, `z_ctx` and `sample`, draws of a standard normal and where the base and
the flow take them. Numbers of weights are multiples of 1/128 or, where a package computes them, rounded to float;
everything is then computed in double precision.
"""
import json
import sys
import zlib

import numpy as np
import torch
from safetensors.torch import save_file

import export
from export import HERE, array, calm, grid, numbers

FOLDER = HERE / "import"
POINTS = 10
random = None


def randomise(module, gain=1.0, last=None):
    """All parameters on the grid; `last` names those that are to be smaller."""
    export.random = random
    export.randomise(module, gain)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if last and any(word in name for word in last):
                p.copy_(torch.from_numpy(grid(array(p) * 0.25)))
        for name, b in module.named_buffers():  # statistics
            if name.endswith("running_mean"):
                b.copy_(torch.from_numpy(grid(random.standard_normal(b.shape) * 0.5)))
            elif name.endswith("running_var"):
                b.copy_(torch.from_numpy(grid(0.5 + np.abs(random.standard_normal(b.shape)))))
            elif name.endswith("initialized") or name.endswith("init_done"):
                b.fill_(1)
    return module


def round_to_float(module):
    with torch.no_grad():
        for t in module.state_dict().values():
            if t.is_floating_point():
                t.copy_(t.float().to(t.dtype))


# ---- flows: each returns the module, log_prob(x, ctx) and sample(z, ctx) --------------------------------------------


def zuko_of(flow):
    base = flow.base
    with torch.no_grad():
        n = len(base.loc)
        base.loc.copy_(torch.from_numpy(grid(random.standard_normal(n) * 0.3)))
        base.scale.copy_(torch.from_numpy(grid(0.75 + np.abs(random.standard_normal(n)) * 0.3)))

    def sample(z, c):
        return flow.transform(c).inv(base.loc + base.scale * z)

    return flow, lambda x, c: flow(c).log_prob(x), sample


def zuko_maf(dim, n_ctx):
    import zuko
    torch.manual_seed(7)
    return zuko_of(randomise(zuko.flows.MAF(dim, n_ctx, transforms=2, randperm=n_ctx == 0, hidden_features=(9, 7)),
                             last=["hyper.4"]))


def zuko_iaf(dim, n_ctx):
    import zuko
    flow = zuko.flows.MAF(dim, n_ctx, transforms=2, hidden_features=(8, 8), activation=torch.nn.SiLU)
    flow.transform = zuko.lazy.LazyComposedTransform(*[zuko.lazy.LazyInverse(t) for t in flow.transform.transforms])
    return zuko_of(randomise(flow, last=["hyper.4"]))


def zuko_nsf(dim, n_ctx):
    import zuko
    return zuko_of(randomise(zuko.flows.NSF(dim, n_ctx, bins=5, transforms=2, hidden_features=(10, 8)), 2))


def zuko_nsf_coupling(dim, n_ctx):
    import zuko
    torch.manual_seed(3)
    return zuko_of(randomise(zuko.flows.NSF(dim, n_ctx, bins=4, passes=2, transforms=2, randperm=n_ctx == 0,
                                            hidden_features=(7, 8), slope=0.01), 2))


def zuko_realnvp(dim, n_ctx):
    import zuko
    return zuko_of(randomise(zuko.flows.RealNVP(dim, n_ctx, transforms=3, hidden_features=(8, 9),
                                                activation=torch.nn.Tanh), last=["hyper.4"]))


def zuko_single(dim, n_ctx):
    """One feature: zuko then has no net, or one of the context alone."""
    import zuko
    return zuko_of(randomise(zuko.flows.NSF(dim, n_ctx, bins=6, transforms=2, hidden_features=(8,)), 2))


def zuko_passes(dim, n_ctx):
    """More passes than two, fewer than features: some features do not see one another."""
    import zuko
    torch.manual_seed(11)
    return zuko_of(randomise(zuko.flows.MAF(dim, n_ctx, transforms=2, randperm=True, passes=3, hidden_features=(7, 6)),
                             last=["hyper.4"]))


def nflows_of(flow):
    flow.eval()
    return flow, lambda x, c: flow.log_prob(x, c), lambda z, c: flow._transform.inverse(z, c)[0]


def nflows_from(dim, transforms, base=None):
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow
    from nflows.transforms import CompositeTransform
    return Flow(CompositeTransform(transforms), base or StandardNormal([dim]))


def nflows_realnvp(dim, n_ctx):
    from nflows.flows import SimpleRealNVP
    return nflows_of(randomise(SimpleRealNVP(dim, 9, 2, 1, batch_norm_between_layers=True), last=["final_layer"]))


def nflows_nice(dim, n_ctx):
    from nflows.flows import SimpleRealNVP
    return nflows_of(randomise(SimpleRealNVP(dim, 8, 2, 1, use_volume_preserving=True)))


def nflows_maf(dim, n_ctx):
    from nflows.flows import MaskedAutoregressiveFlow
    torch.manual_seed(5)
    return nflows_of(randomise(MaskedAutoregressiveFlow(dim, 10, 2, 1, use_random_permutations=True,
                                                        batch_norm_between_layers=True), last=["final_layer"]))


def nflows_maf_context(dim, n_ctx):
    """Feed-forward nets with random masks, as sbi has them, and with tanh."""
    from nflows.transforms import MaskedAffineAutoregressiveTransform, PointwiseAffineTransform, RandomPermutation
    torch.manual_seed(9)
    shift, scale = (torch.from_numpy(grid(a)) for a in (random.standard_normal(dim), 0.5 + np.abs(random.standard_normal(dim))))
    layers = [PointwiseAffineTransform(shift, scale)]
    for _ in range(2):
        layers += [MaskedAffineAutoregressiveTransform(dim, 9, n_ctx, num_blocks=1, use_residual_blocks=False,
                                                       random_mask=True, activation=torch.tanh), RandomPermutation(dim)]
    return nflows_of(randomise(nflows_from(dim, layers), last=["final_layer"]))


def nflows_maf_residual(dim, n_ctx):
    from nflows.distributions.normal import ConditionalDiagonalNormal
    from nflows.transforms import MaskedAffineAutoregressiveTransform, ReversePermutation
    layers = [MaskedAffineAutoregressiveTransform(dim, 7, n_ctx, num_blocks=2), ReversePermutation(dim),
              MaskedAffineAutoregressiveTransform(dim, 6, n_ctx, num_blocks=1)]
    encoder = torch.nn.Linear(n_ctx, 2 * dim)
    flow, log_prob, _ = nflows_of(randomise(nflows_from(dim, layers, ConditionalDiagonalNormal([dim], encoder)),
                                            last=["final_layer", "encoder"]))

    def sample(z, c):
        mean, log_scale = encoder(c).chunk(2, dim=1)
        return flow._transform.inverse(mean + torch.exp(log_scale) * z, c)[0]

    return flow, log_prob, sample


def nflows_single(dim, n_ctx):
    from nflows.transforms import MaskedAffineAutoregressiveTransform
    layers = [MaskedAffineAutoregressiveTransform(dim, 6, n_ctx, num_blocks=1) for _ in range(2)]
    return nflows_of(randomise(nflows_from(dim, layers), last=["final_layer"]))


def nflows_iaf(dim, n_ctx):
    from nflows.transforms import InverseTransform, MaskedAffineAutoregressiveTransform, NaiveLinear, ReversePermutation
    layers = [InverseTransform(MaskedAffineAutoregressiveTransform(dim, 9, num_blocks=1)), NaiveLinear(dim, orthogonal_initialization=False),
              InverseTransform(MaskedAffineAutoregressiveTransform(dim, 9, num_blocks=1, use_residual_blocks=False))]
    flow = randomise(nflows_from(dim, layers), last=["final_layer"])
    matrix = flow._transform._transforms[1]
    with torch.no_grad():
        matrix._weight.copy_(torch.from_numpy(grid(random.standard_normal((dim, dim)) - np.eye(dim))))

    def inverse(z):  # nflows' own calls what torch no longer has
        for t in list(flow._transform._transforms)[::-1]:
            z = torch.linalg.solve(matrix._weight, (z - matrix.bias).T).T if t is matrix else t.inverse(z)[0]
        return z

    return flow.eval(), lambda x, c: flow.log_prob(x), lambda z, c: inverse(z)


def solve_lu(z, lu):
    lower, upper = lu._create_lower_upper()
    return torch.linalg.solve(lower @ upper, (z - lu.bias).T).T


def nflows_nsf_coupling(dim, n_ctx):
    from nflows.nn.nets import ResidualNet
    from nflows.transforms import ActNorm, LULinear, PiecewiseRationalQuadraticCouplingTransform, RandomPermutation
    torch.manual_seed(2)
    layers = [ActNorm(dim)]
    for k in range(2):
        mask = [(i + k) % 2 for i in range(dim)]
        layers += [PiecewiseRationalQuadraticCouplingTransform(
            mask, lambda i, o: ResidualNet(i, o, 8, n_ctx or None, num_blocks=1), num_bins=4, tails="linear",
            tail_bound=3.0, apply_unconditional_transform=k == 0), RandomPermutation(dim), LULinear(dim)]
    flow = randomise(nflows_from(dim, layers), 2, last=["entries"])

    def sample(z, c):
        for t in layers[::-1]:
            z = solve_lu(z, t) if isinstance(t, LULinear) else t.inverse(z, c)[0]
        return z

    return flow.eval(), lambda x, c: flow.log_prob(x, c), sample


def nflows_nsf(dim, n_ctx):
    from nflows.transforms import MaskedPiecewiseRationalQuadraticAutoregressiveTransform, ReversePermutation
    layers = [MaskedPiecewiseRationalQuadraticAutoregressiveTransform(dim, 8, n_ctx or None, 5, "linear", 2.5, num_blocks=1),
              ReversePermutation(dim),
              MaskedPiecewiseRationalQuadraticAutoregressiveTransform(dim, 7, n_ctx or None, 5, "linear", 2.5,
                                                                      num_blocks=1, use_residual_blocks=False)]
    return nflows_of(randomise(nflows_from(dim, layers), 2))


def nflows_diagonal(dim, n_ctx):
    """A base with parameters."""
    from nflows.distributions.normal import DiagonalNormal
    from nflows.nn.nets import ResidualNet
    from nflows.transforms import AffineCouplingTransform
    t = AffineCouplingTransform([1, 0, 1, 0, 0][:dim], lambda i, o: ResidualNet(i, o, 7, num_blocks=2))
    flow, log_prob, _ = nflows_of(randomise(nflows_from(dim, [t], DiagonalNormal([dim])), last=["_std", "final_layer"]))
    base = flow._distribution
    return flow, log_prob, lambda z, c: flow._transform.inverse(base.mean_ + torch.exp(base.log_std_) * z)[0]


def nflows_unit(dim, n_ctx):
    """Splines on the unit interval, whose slopes at the ends are free."""
    from nflows.nn.nets import ResidualNet
    from nflows.transforms import PiecewiseRationalQuadraticCouplingTransform
    layers = [PiecewiseRationalQuadraticCouplingTransform([(i + k) % 2 for i in range(dim)],
                                                          lambda i, o: ResidualNet(i, o, 6, num_blocks=1), num_bins=3)
              for k in range(2)]
    return nflows_of(randomise(nflows_from(dim, layers), 2))


def normflows_of(flow, n_ctx):
    flow.eval()
    base = flow.q0

    def start(z):
        return base.loc + torch.exp(base.log_scale) * z

    if n_ctx:
        return flow, flow.log_prob, lambda z, c: flow.forward(start(z), c)
    return flow, lambda x, c: flow.log_prob(x), lambda z, c: flow.forward(start(z))


def normflows_from(dim, flows, n_ctx=0, last=(), gain=1.0):
    import normflows
    kind = normflows.ConditionalNormalizingFlow if n_ctx else normflows.NormalizingFlow
    flow = kind(normflows.distributions.DiagGaussian(dim), flows)
    return normflows_of(randomise(flow, gain, last=["log_scale", *last]), n_ctx)


def normflows_realnvp(dim, n_ctx):
    import normflows
    flows = []
    for _ in range(2):
        net = normflows.nets.MLP([(dim + 1) // 2, 8, 8, 2 * (dim // 2)])
        flows += [normflows.flows.AffineCouplingBlock(net), normflows.flows.Permute(dim, mode="swap")]
    return normflows_from(dim, flows, last=["net.4"])


def normflows_halves(dim, n_ctx, scale_map):
    """The other half of the features, scales in the form of Glow, and layers the other way round."""
    import normflows

    def net(n):
        return normflows.nets.MLP([dim // 2, 7, n * ((dim + 1) // 2)])

    block, made = normflows.flows.AffineCouplingBlock, normflows.flows.MaskedAffineAutoregressive(dim, 8, num_blocks=1)
    flows = [block(net(2), scale_map=scale_map, split_mode="channel_inv"), normflows.flows.Permute(dim),
             block(net(1), scale=False, split_mode="channel_inv"), normflows.flows.Planar((dim,)),
             normflows.flows.base.Reverse(made)]
    flow, log_prob, sample = normflows_from(dim, flows, last=["net.2", "final_layer"])
    if scale_map == "sigmoid":  # its planar layers have no inverse: at forward(z)
        return flow, None, sample
    flow.flows = torch.nn.ModuleList([f for f in flows if not isinstance(f, normflows.flows.Planar)])
    return flow, log_prob, sample


def normflows_nice(dim, n_ctx):
    import normflows
    flows = []
    for k in range(2):
        b = torch.tensor([float((i + k) % 2) for i in range(dim)])
        net = normflows.nets.MLP([dim, 6, 5, dim], dropout=0.1)
        flows += [normflows.flows.MaskedAffineFlow(b, net) if k else normflows.flows.MaskedAffineFlow(b, None, net)]
    return normflows_from(dim, flows, last=["net.5"])


def normflows_mixture(dim, n_ctx):
    import normflows
    flows = [normflows.flows.MaskedAffineAutoregressive(dim, 6, num_blocks=1)]
    flow = normflows.NormalizingFlow(normflows.distributions.GaussianMixture(3, dim), flows)
    randomise(flow, last=["final_layer", "log_scale"]).eval()
    return flow, lambda x, c: flow.log_prob(x), None


def normflows_masked(dim, n_ctx):
    """The real NVP of the package's README."""
    import normflows
    flows = []
    for k in range(2):
        b = torch.tensor([float((i + k) % 2) for i in range(dim)])
        nets = [normflows.nets.MLP([dim, w, dim], leaky=0.01) for w in (7, 5)]
        flows += [normflows.flows.MaskedAffineFlow(b, *nets), normflows.flows.ActNorm(dim)]
    return normflows_from(dim, flows, last=["net.2"])


def normflows_maf(dim, n_ctx):
    import normflows
    flows = []
    for k in range(2):
        flows.append(normflows.flows.MaskedAffineAutoregressive(dim, 9, n_ctx or None, num_blocks=2,
                                                                use_residual_blocks=bool(n_ctx)))
        flows.append(normflows.flows.LULinearPermute(dim) if n_ctx else normflows.flows.Permute(dim))
    if not n_ctx:
        flows.append(normflows.flows.InvertibleAffine(dim))
    return normflows_from(dim, flows, n_ctx, last=["final_layer", "entries", "log_S"])


def normflows_nsf_coupling(dim, n_ctx):
    import normflows
    flows = []
    for k in range(2):
        flows += [normflows.flows.CoupledRationalQuadraticSpline(dim, 1, 8, n_ctx or None, num_bins=4, reverse_mask=k == 1),
                  normflows.flows.LULinearPermute(dim)]
    return normflows_from(dim, flows, n_ctx, last=["entries"], gain=2)


def normflows_nsf(dim, n_ctx):
    import normflows
    torch.manual_seed(4)
    flows = []
    for k in range(2):
        flows += [normflows.flows.AutoregressiveRationalQuadraticSpline(dim, 1, 8, n_ctx or None, num_bins=4,
                                                                        permute_mask=True),
                  normflows.flows.LULinearPermute(dim)]
    return normflows_from(dim, flows, n_ctx, last=["entries"], gain=2)


def normflows_residual(dim, n_ctx):
    """In two dimensions log-dets are exact. Its inverse stops early: iterated on here."""
    import normflows
    flows = []
    for k in range(2):
        net = normflows.nets.LipschitzMLP([dim, 8, 7, dim], lipschitz_const=0.9, init_zeros=False)
        flows += [normflows.flows.Residual(net, reduce_memory=False), normflows.flows.ActNorm(dim)]
    flow, log_prob, _ = normflows_from(dim, flows, gain=1.5)
    for f in flows[::2]:
        for m in f.iresblock.nnet.net[1::2]:
            m.compute_weight(update=True, n_iterations=3)

    def sample(z, c):
        z = flow.q0.loc + torch.exp(flow.q0.log_scale) * z
        for f in flows:
            if isinstance(f, normflows.flows.ActNorm):
                z = f(z)[0]
            else:
                x = z
                for _ in range(3000):
                    x = z - f.iresblock.nnet(x)
                z = x
        return z

    return flow, log_prob, sample


def normflows_glow(image, n_classes, glow_base):
    """Two levels of two blocks, as in the package's example."""
    import normflows
    levels, channels = 2, image[0]
    bases, flows, merges = [], [], []
    for i in range(levels):
        deep = levels - i
        flows.append([normflows.flows.GlowBlock(channels * 2 ** (deep + 1), 4, use_lu=i == 0, net_actnorm=i == 1)
                      for _ in range(2 - i)] + [normflows.flows.Squeeze()])
        shape = (channels * 2 ** (deep + (i == 0)), image[1] >> deep, image[2] >> deep)
        if i:
            merges.append(normflows.flows.Merge())
        bases.append(normflows.distributions.GlowBase(shape) if glow_base
                     else normflows.distributions.ClassCondDiagGaussian(shape, n_classes))
    flow = normflows.MultiscaleFlow(bases, flows, merges, class_cond=not glow_base)
    flow.eval()
    randomise(flow, last=["net.4", "net.6", "log_scale", "loc_logs", ".s"])
    with torch.no_grad():
        for name, p in flow.named_parameters():
            if name.endswith(".W"):  # nearly orthogonal, on the grid
                p.copy_(torch.from_numpy(grid(np.linalg.qr(random.standard_normal(p.shape))[0])))

    def base_numbers(b, c):
        if glow_base:
            return b.loc * torch.exp(3 * b.loc_logs), b.log_scale * torch.exp(3 * b.log_scale_logs)
        return (b.loc @ c.t()).permute(*b.perm), (b.log_scale @ c.t()).permute(*b.perm)

    def sample(z, c):
        parts, at = [], 0
        for b in bases:
            n = int(np.prod(b.shape))
            mean, log_scale = base_numbers(b, c)
            parts.append(mean + torch.exp(log_scale) * z[:, at:at + n].reshape(len(z), *b.shape))
            at += n
        return flow.forward_and_log_det(parts)[0].flatten(1)

    return flow, lambda x, c: flow.log_prob(x.reshape(len(x), *image), c), sample


def density_of_draws(flow, z):
    total = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1) - flow.q0.log_scale.sum()
    z = flow.q0.loc + torch.exp(flow.q0.log_scale) * z
    for f in flow.flows:
        z, log_det = f(z)
        total = total - log_det
    return total


# ---- files ---------------------------------------------------------------------------------------------------------

FLOWS = [  # name, dim, n_ctx, whether the context is a class, builder
    ("zuko-maf", 5, 0, zuko_maf),
    ("zuko-maf_context", 4, 2, zuko_maf),
    ("zuko-iaf", 4, 2, zuko_iaf),
    ("zuko-nsf", 4, 0, zuko_nsf),
    ("zuko-nsf_context", 3, 2, zuko_nsf),
    ("zuko-nsf_coupling", 5, 0, zuko_nsf_coupling),
    ("zuko-nsf_coupling_context", 4, 2, zuko_nsf_coupling),
    ("zuko-realnvp", 5, 2, zuko_realnvp),
    ("zuko-passes", 5, 2, zuko_passes),
    ("zuko-single", 1, 0, zuko_single),
    ("zuko-single_context", 1, 2, zuko_single),
    ("nflows-realnvp", 5, 0, nflows_realnvp),
    ("nflows-nice", 4, 0, nflows_nice),
    ("nflows-maf", 5, 0, nflows_maf),
    ("nflows-maf_context", 4, 3, nflows_maf_context),
    ("nflows-maf_residual", 3, 2, nflows_maf_residual),
    ("nflows-single", 1, 2, nflows_single),
    ("nflows-iaf", 4, 0, nflows_iaf),
    ("nflows-nsf_coupling", 4, 2, nflows_nsf_coupling),
    ("nflows-nsf", 3, 2, nflows_nsf),
    ("nflows-diagonal", 5, 0, nflows_diagonal),
    ("nflows-unit", 4, 0, nflows_unit),
    ("normflows-realnvp", 5, 0, normflows_realnvp),
    ("normflows-sigmoid", 5, 0, lambda d, c: normflows_halves(d, c, "sigmoid")),
    ("normflows-sigmoid_inv", 5, 0, lambda d, c: normflows_halves(d, c, "sigmoid_inv")),
    ("normflows-nice", 4, 0, normflows_nice),
    ("normflows-masked", 4, 0, normflows_masked),
    ("normflows-mixture", 3, 0, normflows_mixture),
    ("normflows-maf", 4, 0, normflows_maf),
    ("normflows-maf_context", 4, 2, normflows_maf),
    ("normflows-nsf_coupling", 4, 2, normflows_nsf_coupling),
    ("normflows-nsf", 4, 2, normflows_nsf),
    ("normflows-residual", 2, 0, normflows_residual),
    ("normflows-glow", 32, 0, lambda d, c: normflows_glow((1, 8, 4), 0, True)),
    ("normflows-glow_classes", 32, 3, lambda d, c: normflows_glow((1, 4, 8), c, False)),
]


def write(name, dim, n_ctx, build):
    global random
    random = np.random.default_rng(zlib.crc32(name.encode()))
    torch.manual_seed(1)
    flow, log_prob, sample = build(dim, n_ctx)
    round_to_float(flow)
    x, z = (grid(random.standard_normal((POINTS, dim)) * s, 1024) for s in (1.5, 1))
    if "classes" in name:
        ctx, z_ctx = (np.eye(n_ctx)[random.integers(n_ctx, size=POINTS)] for _ in range(2))
    else:
        ctx, z_ctx = (grid(random.standard_normal((POINTS, n_ctx)), 1024) if n_ctx else None for _ in range(2))

    if name.endswith("unit"):
        x, z = (np.abs(np.sin(a)) for a in (x, z))

    def tensor(a):
        return None if a is None else torch.from_numpy(a)

    with torch.no_grad():
        y = array(sample(tensor(z), tensor(z_ctx))) if sample else np.zeros(0)
        if log_prob:
            lp = array(log_prob(tensor(x), tensor(ctx)))
        else:
            x, lp = y, array(density_of_draws(flow, tensor(z)))
    assert np.isfinite(lp).all() and np.isfinite(y).all()
    state = {key: (t.float() if t.is_floating_point() else t).contiguous() for key, t in flow.state_dict().items()}
    save_file(state, FOLDER / f"{name}.safetensors")
    fields = [("dim", str(dim)), ("n_ctx", str(n_ctx)), ("x", numbers(x)), ("log_prob", numbers(lp))]
    if sample:
        fields += [("z", numbers(z)), ("sample", numbers(y))]
    if n_ctx:
        fields += [("ctx", numbers(ctx)), ("z_ctx", numbers(z_ctx))]
    text = "{" + ",\n ".join(f'"{key}": {value}' for key, value in fields) + "}\n"
    json.loads(text)
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
    size = (FOLDER / f"{name}.safetensors").stat().st_size
    print(f"{name:30} {size:6} and {len(text):6} bytes   log p {lp.min():9.2f} to {lp.max():7.2f}, "
          f"samples to {np.abs(y).max(initial=0):.1f}")


def main():
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for flow in FLOWS:
        if len(sys.argv) < 2 or flow[0] in sys.argv[1:]:
            write(*flow)


if __name__ == "__main__":
    main()
