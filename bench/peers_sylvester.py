"""Orthogonal Sylvester flows with parameters per sample in torch, as van den Berg et al.'s code has them: what
bench_sylvester does. Batched throughout; all layers' Q are made orthogonal at once, in as many rounds of the paper's
iteration as these parameters need, counted once beforehand (their code looks after every round, which takes longer)."""
import torch

NEAR = 1e-5  # of Q^T Q to the identity: as near as floats come after a few rounds


def rounds_needed(q):
    eye = torch.eye(q.shape[2])
    q = q / q.flatten(1).norm(dim=1).view(-1, 1, 1)
    for n in range(100):
        gram = torch.bmm(q.transpose(1, 2), q)
        if (gram - eye).flatten(1).norm(dim=1).max() < NEAR:
            return n
        q = torch.bmm(q, 1.5 * eye - 0.5 * gram)
    raise RuntimeError("Q does not converge")


class Sylvester(torch.nn.Module):
    """z' = z + Q R tanh(R~ Q^T z + b), `length` times; one matrix holds R above its diagonal and R~ below it, transposed,
    and the diagonals are tanh of parameters of their own."""

    def __init__(self, dim, columns, length, rounds):
        super().__init__()
        self.dim, self.columns, self.length, self.rounds = dim, columns, length, rounds
        self.register_buffer("above", torch.triu(torch.ones(columns, columns), 1))
        self.register_buffer("eye", torch.eye(columns))

    def sizes(self):
        d, m, k = self.dim, self.columns, self.length
        return [k * d * m, k * m * m, k * m, k * m, k * m]

    def orthogonal(self, v):
        q = v / v.flatten(1).norm(dim=1).view(-1, 1, 1)
        for _ in range(self.rounds):
            q = torch.bmm(q, 1.5 * self.eye - 0.5 * torch.bmm(q.transpose(1, 2), q))
        return q

    def forward(self, z, theta):
        n, d, m, k = len(z), self.dim, self.columns, self.length
        v, full, alpha, alpha_tilde, b = theta.split(self.sizes(), 1)
        q = self.orthogonal(v.reshape(n * k, d, m)).view(n, k, d, m)
        full = full.view(n, k, m, m)
        r, r_tilde = torch.tanh(alpha).view(n, k, m), torch.tanh(alpha_tilde).view(n, k, m)
        R = self.above * full + torch.diag_embed(r)
        R_tilde = self.above * full.transpose(2, 3) + torch.diag_embed(r_tilde)
        b = b.view(n, k, 1, m)
        z, log_det = z.unsqueeze(1), 0
        for i in range(k):
            left, right = torch.bmm(q[:, i], R[:, i]), torch.bmm(q[:, i], R_tilde[:, i].transpose(1, 2))
            h = torch.tanh(torch.bmm(z, right) + b[:, i])
            z = z + torch.bmm(h, left.transpose(1, 2))
            log_det = log_det + (1 + (1 - h.squeeze(1) ** 2) * r[:, i] * r_tilde[:, i]).abs().log().sum(1)
        return z.squeeze(1), log_det


def sylvester(dim, columns, length, batch, compiled):
    flow = Sylvester(dim, columns, length, 0)
    z = torch.randn(batch, dim, requires_grad=True)
    theta = torch.randn(batch, sum(flow.sizes()))
    theta[:, flow.sizes()[0]:] *= 0.1
    flow.rounds = rounds_needed(theta[:, :flow.sizes()[0]].reshape(batch * length, dim, columns))
    theta.requires_grad_(True)
    gz, g_log_det = torch.randn(batch, dim), torch.randn(batch)
    f = torch.compile(flow) if compiled else flow

    def step():
        z.grad = theta.grad = None
        torch.autograd.backward(f(z, theta), (gz, g_log_det))

    return step


WORKLOADS = {"sylvester": lambda c: sylvester(64, 8, 4, 100, c)}


def build(peer, workload):
    return WORKLOADS[workload](peer.endswith("-compiled"))
