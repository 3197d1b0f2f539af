#!/usr/bin/env python3
"""Golden numbers for ten optimizer steps of SGD, SAM, ASAM and SAM-ON, from PyTorch autograd in float64.

Writes optimizer_steps.json, described in README.md, next to this file. With L_B the mean softmax
cross-entropy of a set of samples B, one step on the minibatch B is

    for every group G of m consecutive samples of B (the last one may be smaller):
        g   = grad L_G(w)
        e_G = rho T^2 g / ||T g||         T = 1 (SAM), T = |w| + eta (ASAM; on biases see asam_biases),
                                          T = 0 on weights, 1 on biases (SAM-ON)
    d = sum over G of |G| / |B| grad L_G(w + e_G)            (SGD: e_G = 0)
    v = momentum v + d + weight_decay w
    w = w - lr_t v

where lr_t follows PyTorch's own schedulers. Of the steps 0, 1, ..., those that ascent_every does not divide
have e_G = 0. SAM is Foret et al., arXiv 2010.01412; ASAM is the element-wise form of Kwon et al., arXiv
2102.11600; SAM-ON is Mueller et al., arXiv 2306.04226, of a network without normalization layers. Weight decay is the base optimizer's alone, momentum sees the second gradient alone,
and the weights go back to a saved copy before the step.
"""

import argparse
import itertools
import json
import math
import pathlib
import random
import sys

import torch
from torch.nn.functional import cross_entropy
from torch.optim import lr_scheduler as rates

STEPS = 10
ROUNDING_MARGIN = 2e-4  # no moment comes closer to where its 8 bits change, in steps of them
BLOCK, SECOND = 64, 0.9990000128746033  # parameters that share a scale; beta_2, an f32
MARGIN = 1e-4  # no hidden pre-activation comes closer to ReLU's kink, at w or at w + e
NETS = {"one": ([5, 3], 16), "two": ([6, 5, 3], 20), "three": ([12, 10, 8, 4], 24)}  # widths, samples
DEFAULTS = dict(method="sgd", asam_biases="unit", train_biases=True, lr=0.1, momentum=0.9,
                weight_decay=0.01, rho=0.0, eta=0.0, m=8, batch_size=8, short_last=False,
                ascent_every=1, schedule="constant", warm_up=0.0, optimizer="sgd")
PLAIN = dict(momentum=0.0, weight_decay=0.0)
SAM = dict(method="sam", rho=0.05)
ASAM = dict(method="asam", rho=0.5, eta=0.01)
SAM_ON = dict(method="sam-on", rho=0.1)
ADAM = dict(optimizer="adam", lr=0.01)
CASES = [  # name, net, what differs from DEFAULTS
    ("one_layer_sgd_plain", "one", PLAIN),
    ("one_layer_sam_m1_rho_half", "one", SAM | dict(m=1, rho=0.5)),
    ("one_layer_asam_m4", "one", ASAM | dict(m=4)),
    ("one_layer_asam_elementwise_full_eta0", "one", ASAM | PLAIN | dict(asam_biases="elementwise", eta=0.0)),
    ("two_layers_sgd_decay", "two", dict(momentum=0.0)),
    ("two_layers_sgd_momentum_decay", "two", {}),
    ("two_layers_sam_full_plain", "two", SAM | PLAIN),
    ("two_layers_sam_full_rho_half", "two", SAM | dict(rho=0.5)),
    ("two_layers_sam_m1_momentum", "two", SAM | dict(m=1, weight_decay=0.0)),
    ("two_layers_sam_m4_rho_half", "two", SAM | dict(m=4, rho=0.5)),
    ("two_layers_sam_m3_remainder", "two", SAM | dict(m=3)),
    ("two_layers_sam_m3_short_last_batch", "two", SAM | dict(m=3, short_last=True)),
    ("two_layers_sam_m4_frozen_biases", "two", SAM | dict(m=4, train_biases=False)),
    ("two_layers_asam_full", "two", ASAM),
    ("two_layers_asam_full_eta0", "two", ASAM | dict(eta=0.0)),
    ("two_layers_asam_m1", "two", ASAM | dict(m=1)),
    ("two_layers_asam_m3_remainder_decay", "two", ASAM | dict(m=3, momentum=0.0)),
    ("two_layers_asam_elementwise_m4", "two", ASAM | dict(asam_biases="elementwise", m=4)),
    ("two_layers_asam_m1_frozen_biases", "two", ASAM | dict(m=1, train_biases=False)),
    ("three_layers_sgd_momentum", "three", dict(weight_decay=0.0)),
    ("three_layers_sam_m1", "three", SAM | dict(m=1)),
    ("three_layers_asam_m1", "three", ASAM | dict(m=1, rho=0.05)),
    ("three_layers_asam_m4_remainder", "three", ASAM | dict(m=4, batch_size=10)),
    ("two_layers_sam_on_full", "two", SAM_ON),
    ("two_layers_sam_on_m3_remainder", "two", SAM_ON | dict(m=3)),
    ("two_layers_sam_on_m1_rho_half", "two", SAM_ON | dict(m=1, rho=0.5)),
    ("three_layers_sam_on_m1", "three", SAM_ON | dict(m=1)),
    ("two_layers_sam_every_third", "two", SAM | dict(ascent_every=3)),
    ("three_layers_asam_m1_every_second", "three", ASAM | dict(m=1, rho=0.05, ascent_every=2)),
    ("two_layers_sgd_warm_up_cosine", "two", dict(schedule="cosine", warm_up=0.3)),
    ("two_layers_sam_m1_warm_up", "two", SAM | dict(m=1, warm_up=0.5)),
    ("two_layers_adam", "two", ADAM),
    ("two_layers_adam_sam_m1", "two", ADAM | SAM | dict(m=1)),
    ("two_layers_adam_asam_m4_frozen_biases", "two", ADAM | ASAM | dict(m=4, train_biases=False, momentum=0.8)),
    ("three_layers_adam_no_decay", "three", ADAM | dict(weight_decay=0.0)),
]


def f32(value):
    """The f32 nearest to a number, as a Python float."""
    return torch.tensor(value, dtype=torch.float32).item()


def make_case(name, net, changes, seed):
    """All inputs of a case; every real number among them is an f32."""
    widths, count = NETS[net]
    options = {k: f32(v) if isinstance(v, float) else v for k, v in (DEFAULTS | changes).items()}
    rng = random.Random(seed)

    def grid(limit, step):  # a multiple of 1/step: exact in f32, and short in decimal
        return round(rng.uniform(-limit, limit) * step) / step

    samples = [[grid(1.5, 16) for _ in range(widths[0])] for _ in range(count)]
    labels = [rng.randrange(widths[-1]) for _ in range(count)]
    initial = []
    for fan_in, fan_out in itertools.pairwise(widths):
        initial += [grid(1.5 / math.sqrt(fan_in), 256) for _ in range(fan_in * fan_out)]
        initial += [grid(0.3, 256) for _ in range(fan_out)]
    assert all(f32(v) == v for v in itertools.chain(initial, *samples))

    size = options["batch_size"]
    if options.pop("short_last"):  # every epoch begins at sample 0
        epoch = [list(range(i, min(i + size, count))) for i in range(0, count, size)]
        batches = [epoch[i % len(epoch)] for i in range(STEPS)]
    else:  # one endless run over the samples
        batches = [[(i * size + j) % count for j in range(size)] for i in range(STEPS)]
    return dict(name=name, **options, widths=widths, initial=initial, samples=samples,
                labels=labels, batches=batches)


class Net:
    """Dense layers with ReLU between, over separate weight and bias tensors."""

    def __init__(self, case, dtype):
        self.tensors, self.trained, at = [], [], 0
        initial = torch.tensor(case["initial"], dtype=dtype)
        for fan_in, fan_out in itertools.pairwise(case["widths"]):
            for shape in [(fan_out, fan_in), (fan_out,)]:
                tensor = initial[at:at + math.prod(shape)].reshape(shape).clone()
                at += tensor.numel()
                self.tensors.append(tensor)
                if tensor.dim() == 2 or case["train_biases"]:
                    self.trained.append(tensor.requires_grad_())
        self.margin = math.inf

    def loss(self, x, y):
        layers = list(zip(self.tensors[::2], self.tensors[1::2]))
        for weight, bias in layers[:-1]:
            z = x @ weight.T + bias
            self.margin = min(self.margin, z.abs().min().item())
            x = z.relu()
        weight, bias = layers[-1]
        return cross_entropy(x @ weight.T + bias, y)

    def flat(self):
        return torch.cat([t.detach().flatten() for t in self.tensors]).tolist()


def groups(x, y, m):
    """Consecutive groups of m samples, each with its share of the minibatch."""
    for xg, yg in zip(x.split(m), y.split(m)):
        yield xg, yg, len(yg) / len(y)


def perturbation(case, params, grads):
    """e = rho T^2 g / ||T g|| over all trained tensors, or zero if the norm is."""
    def scale(p):
        if case["method"] == "sam-on" and p.dim() == 2:
            return torch.zeros_like(p)
        if case["method"] != "asam" or (p.dim() == 1 and case["asam_biases"] == "unit"):
            return torch.ones_like(p)
        return p.abs() + case["eta"]

    scales = [scale(p) for p in params]
    norm = math.sqrt(sum((t * g).square().sum().item() for t, g in zip(scales, grads)))
    if norm == 0:  # a sample whose hidden units are all off, biases frozen
        return [torch.zeros_like(p) for p in params]
    e = [case["rho"] / norm * t * t * g for t, g in zip(scales, grads)]
    inside = math.sqrt(sum(torch.where(t > 0, d / t, 0).square().sum().item() for t, d in zip(scales, e)))
    assert math.isclose(inside, case["rho"], rel_tol=1e-5)  # ||e / T|| = rho
    return e


def descent_gradient(case, net, x, y, ascends):
    """The loss of a minibatch at w, and the gradient that the base optimizer is given."""
    total, result = 0.0, [torch.zeros_like(p) for p in net.trained]
    for xg, yg, share in groups(x, y, case["m"]):
        loss = net.loss(xg, yg)
        grads = torch.autograd.grad(loss, net.trained)
        total += share * loss.item()
        if ascends:
            with torch.no_grad():
                saved = [p.clone() for p in net.trained]
                for p, e in zip(net.trained, perturbation(case, net.trained, grads)):
                    p.add_(e)
            grads = torch.autograd.grad(net.loss(xg, yg), net.trained)
            with torch.no_grad():
                for p, s in zip(net.trained, saved):
                    p.copy_(s)
        for r, g in zip(result, grads):
            r.add_(g, alpha=share)
    return total, result


def second_opinion(case, net):
    """descent_gradient by pytorch-optimizer's SAM, whose base here only has to restore w.

    It has no eta; T = 1 on biases comes from a parameter group that is not adaptive.
    """
    from pytorch_optimizer import SAM as TheirSam

    adaptive = case["method"] == "asam"
    spread = [[p for p in net.trained if p.dim() == d] for d in (2, 1)]
    kinds = [dict(params=spread[0], adaptive=adaptive),
             dict(params=spread[1], adaptive=adaptive and case["asam_biases"] == "elementwise")]
    theirs = TheirSam([k for k in kinds if k["params"]], torch.optim.SGD, rho=case["rho"], lr=0.0)

    def gradient(x, y):
        total, result = 0.0, [torch.zeros_like(p) for p in net.trained]
        for xg, yg, share in groups(x, y, case["m"]):
            theirs.zero_grad()
            loss = net.loss(xg, yg)
            loss.backward()
            total += share * loss.item()
            theirs.first_step(zero_grad=True)
            net.loss(xg, yg).backward()
            theirs.second_step()
            for r, p in zip(result, net.trained):
                r.add_(p.grad, alpha=share)
        return total, result

    return gradient


class Adam8(torch.optim.Optimizer):
    """AdamW whose moments are rounded after every step, in blocks of 64 of the flat parameters: m to the nearest of 127
    steps of its block's largest on either side, the root of v up to one of 255."""

    def __init__(self, net, lr, beta, weight_decay):
        super().__init__(net.trained, dict(lr=lr))
        self.net, self.beta, self.weight_decay = net, beta, weight_decay
        count = sum(t.numel() for t in net.tensors)
        self.m, self.root, self.t = torch.zeros(count).to(net.tensors[0]), torch.zeros(count).to(net.tensors[0]), 0
        self.margin = math.inf

    def rounded(self, values, steps, boundary):
        """Of every block; boundary is where in a step the rounding changes. Largest and zero stay what they are."""
        for block in values.split(BLOCK):
            top = block.abs().max()
            if top > 0:
                exact = block / top * steps
                inner = exact[(exact != 0) & (exact.abs() < steps)]
                self.margin = min([self.margin, *((inner - boundary) - (inner - boundary).round()).abs().tolist()])
                block.copy_((exact.ceil() if boundary == 0 else exact.round()) * top / steps)

    @torch.no_grad()
    def step(self):
        self.t += 1
        lr = self.param_groups[0]["lr"]
        c1, c2 = 1 - self.beta**self.t, 1 - SECOND**self.t
        g = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in self.net.tensors])
        self.m.mul_(self.beta).add_(g, alpha=1 - self.beta)
        self.root = (SECOND * self.root**2 + (1 - SECOND) * g**2).sqrt()
        by = (self.m / c1) / (self.root / math.sqrt(c2) + 1e-8)
        for p, d in zip(self.net.tensors, by.split([t.numel() for t in self.net.tensors])):
            if p.requires_grad:
                p.mul_(1 - lr * self.weight_decay).sub_(d.reshape(p.shape), alpha=lr)
        self.rounded(self.m, 127, 0.5)
        self.rounded(self.root, 255, 0)


def base_optimizer(case, net, exact):
    """The base optimizer; exact with moments that are not rounded, by PyTorch."""
    if case["optimizer"] == "sgd":
        return torch.optim.SGD(net.trained, lr=case["lr"], momentum=case["momentum"], weight_decay=case["weight_decay"])
    if exact:
        return torch.optim.AdamW(net.trained, lr=case["lr"], betas=(case["momentum"], SECOND),
                                 weight_decay=case["weight_decay"])
    return Adam8(net, case["lr"], case["momentum"], case["weight_decay"])


def schedule(case, base):
    """A warm-up of W steps to the whole rate, then the schedule over the others."""
    warm = int(case["warm_up"] * STEPS)
    last = dict(constant=lambda: rates.ConstantLR(base, factor=1.0),
                cosine=lambda: rates.CosineAnnealingLR(base, T_max=STEPS - warm))[case["schedule"]]()
    if warm == 0:
        return last
    first = rates.LinearLR(base, start_factor=1 / warm, total_iters=warm - 1)
    return rates.SequentialLR(base, [first, last], milestones=[warm])


def run(case, dtype=torch.float64, theirs=False, exact=False):
    """Ten steps: losses, flat parameters after each, and whether every branch and rounding was clear."""
    net = Net(case, dtype)
    theirs = second_opinion(case, net) if theirs else None
    base = base_optimizer(case, net, exact)
    samples, labels = torch.tensor(case["samples"], dtype=dtype), torch.tensor(case["labels"])
    scheduler = schedule(case, base)
    losses, params = [], []
    for step, batch in enumerate(case["batches"]):
        ascends = case["method"] != "sgd" and step % case["ascent_every"] == 0
        if theirs and ascends:
            loss, grads = theirs(samples[batch], labels[batch])
        else:
            loss, grads = descent_gradient(case, net, samples[batch], labels[batch], ascends)
        for p, g in zip(net.trained, grads):
            p.grad = g
        base.step()
        scheduler.step()
        losses.append(loss)
        params.append(net.flat())
    return losses, params, min(net.margin, getattr(base, "margin", math.inf) * MARGIN / ROUNDING_MARGIN)


def distance(case, a, b):
    """The largest relative distance ||a - b|| / ||b|| of a weight or bias tensor after any step."""
    sizes = [n for i, o in itertools.pairwise(case["widths"]) for n in (i * o, o)]

    def tensors(steps):
        return [t for p in steps for t in torch.tensor(p, dtype=torch.float64).split(sizes)]

    apart = [(u - v).norm() / v.norm() for u, v in zip(tensors(a), tensors(b), strict=True)]
    return torch.stack(apart).max().item()  # NaN if any is


def golden(index, entry, cross_check):
    """A finished case, from the first seed whose run keeps clear of ReLU's kink."""
    for seed in itertools.count(1000 * index):
        case = make_case(*entry, seed)
        losses, params, margin = run(case)
        if margin >= MARGIN:
            break
    assert margin >= MARGIN and all(map(math.isfinite, losses + params[-1]))
    report = f"{case['name']:40} seed {seed}, margin {margin:.1e}, loss {losses[0]:.3f} to {losses[-1]:.3f}"
    report += f", f32 within {distance(case, run(case, torch.float32)[1], params):.1e}"
    if case["optimizer"] == "adam":
        apart = distance(case, run(case, exact=True)[1], params)
        assert apart < 0.02, (case["name"], apart)  # what 8 bits do to the moments
        report += f", AdamW of PyTorch within {apart:.1e}"
    if cross_check and case["method"] in ("sam", "asam") and case["eta"] == 0:
        apart = distance(case, run(case, theirs=True)[1], params)
        assert apart < 1e-7, (case["name"], apart)  # their norm is rounded to f32
        report += f", pytorch-optimizer within {apart:.1e}"
    print(report, file=sys.stderr)

    def digits(v):
        return float(f"{v:.9g}")

    return case | dict(loss=[digits(v) for v in losses], params=[[digits(v) for v in p] for p in params])


def text(cases):
    """JSON with a line for each field, and one for each step's parameters."""
    def dump(value):
        return json.dumps(value, separators=(",", ":"))

    def field(key, value):
        if key == "params":
            return '"params":[\n' + ",\n".join(map(dump, value)) + "]"
        return f"{dump(key)}:{dump(value)}"

    head = f'{{"format":2,"torch":{dump(torch.__version__.split("+")[0])},"cases":[\n'
    return head + ",\n".join("{" + ",\n".join(itertools.starmap(field, c.items())) + "}" for c in cases) + "]}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).with_suffix(".json"),
                        help="the file to write (default: %(default)s)")
    parser.add_argument("--check", action="store_true",
                        help="write nothing; fail unless the file at --out holds these numbers")
    parser.add_argument("--no-cross-check", dest="cross_check", action="store_false",
                        help="do without the comparison with the package pytorch-optimizer")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cases = [golden(i, entry, args.cross_check) for i, entry in enumerate(CASES, 1)]
    if not args.check:
        args.out.write_text(text(cases))
        return
    stored = json.loads(args.out.read_text())["cases"]
    assert [c["name"] for c in stored] == [c["name"] for c in cases], "the cases differ"
    for old, new in zip(stored, cases):
        assert all(old[k] == v for k, v in new.items() if k not in ("loss", "params")), old["name"]
        assert max(abs(a - b) for a, b in zip(old["loss"], new["loss"], strict=True)) < 1e-8, old["name"]
        assert distance(old, old["params"], new["params"]) < 1e-8, old["name"]
    print(f"{args.out}: {len(cases)} cases hold", file=sys.stderr)


if __name__ == "__main__":
    main()
