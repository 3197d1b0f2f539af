#!/usr/bin/env python3
"""Golden numbers of every variant that was screened: the papers' formulas in float64, beside pytorch-optimizer's."""

import itertools
import json
import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "tests/golden"))
import optimizer_steps as known
import torch

SAM = dict(method="sam", rho=0.05)
MORE = dict(base="sgd", every=1, alpha=0.0, beta=1.0, gamma=1.0, sigma=0.0, **{"lambda": 0.0})
LOOK = dict(method="looksam", rho=0.1, every=3, alpha=0.7)
FRIENDLY = dict(method="friendly", rho=0.1, sigma=1.0, **{"lambda": 0.9})
CASES = [
    ("nesterov", "two", dict(base="nesterov")),
    ("nesterov_three_sam_m1", "three", SAM | dict(base="nesterov", m=1)),
    ("adamw", "two", dict(base="adam", lr=0.01)),
    ("adamw_sam_m4", "two", SAM | dict(base="adam", lr=0.01, m=4)),
    ("sam_every_3", "two", SAM | dict(every=3)),
    ("sam_every_2_m1", "three", SAM | dict(every=2, m=1)),
    ("looksam", "two", LOOK),
    ("looksam_m1", "three", LOOK | dict(m=1)),
    ("looksam_one_tensor", "one", LOOK | dict(train_biases=False)),
    ("esam", "two", dict(method="esam", rho=0.05, beta=0.5, gamma=0.5)),
    ("esam_m1", "two", dict(method="esam", rho=0.05, beta=0.6, gamma=0.5, m=1)),
    ("friendly", "two", FRIENDLY),
    ("friendly_m4", "three", FRIENDLY | dict(m=4)),
    ("gsam", "two", dict(method="gsam", rho=0.1, alpha=0.4)),
    ("gsam_m1", "two", dict(method="gsam", rho=0.05, alpha=0.3, m=1)),
    ("gsam_three_m3", "three", dict(method="gsam", rho=0.05, alpha=0.2, m=3)),
    ("sam_on", "two", dict(method="sam-on", rho=0.1)),
    ("sam_on_m1", "three", dict(method="sam-on", rho=0.1, m=1)),
]
M64 = (1 << 64) - 1


def uniform(step, place):
    z = ((step << 32 | place) + 1) * 0x9E3779B97F4A7C15 & M64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & M64
    z = (z ^ z >> 27) * 0x94D049BB133111EB & M64
    return ((z ^ z >> 31) >> 11) / (1 << 53)


def dot(a, b):
    return sum((x * y).sum() for x, y in zip(a, b))


class Variant:
    """The gradient that the base optimizer is given."""

    def __init__(self, case, net):
        self.case, self.net, self.t, self.flat, self.mean = case, net, 0, None, None

    def grads(self, x, y, e=None):
        net = self.net
        with torch.no_grad():
            saved = [p.clone() for p in net.trained]
            for p, d in zip(net.trained, e or []):
                p.add_(d)
        loss = net.loss(x, y)
        found = [g.clone() for g in torch.autograd.grad(loss, net.trained)]
        with torch.no_grad():
            for p, s in zip(net.trained, saved):
                p.copy_(s)
        return loss.item(), found

    def ascent(self, g):
        case, method = self.case, self.case["method"]
        on = [torch.zeros_like(p) if method == "sam-on" and p.dim() == 2 else torch.ones_like(p) for p in g]
        g = [a * b for a, b in zip(g, on)]
        norm = math.sqrt(dot(g, g))
        e = [case["rho"] / norm * d if norm > 0 else torch.zeros_like(d) for d in g]
        if method == "esam":
            at, out = 0, []
            for d in e:
                keep = torch.tensor([uniform(self.t, at + i) < case["beta"] for i in range(d.numel())])
                out.append(d * keep.reshape(d.shape) / case["beta"])
                at += d.numel()
            e = out
        return e

    def direction(self, x, y):
        case, method = self.case, self.case["method"]
        whole_loss, whole = self.grads(x, y)
        ascends = method != "sgd" and (method not in ("sam", "looksam") or self.t % case["every"] == 0)
        result = [torch.zeros_like(g) for g in whole]
        if not ascends:
            if method == "looksam":
                norm = math.sqrt(dot(self.flat, self.flat))
                whole = [g + case["alpha"] * math.sqrt(dot(whole, whole)) / norm * f for g, f in zip(whole, self.flat)]
            self.t += 1
            return whole_loss, whole
        rises = []
        for xg, yg, share in known.groups(x, y, case["m"]):
            _, g = self.grads(xg, yg)
            up = g if self.mean is None else [d - case["sigma"] * m for d, m in zip(g, self.mean)]
            e = self.ascent(up)
            if method == "esam":
                for i in range(len(yg)):
                    before, _ = self.grads(xg[i:i + 1], yg[i:i + 1])
                    after, gi = self.grads(xg[i:i + 1], yg[i:i + 1], e)
                    rises.append((after - before, gi))
                continue
            _, there = self.grads(xg, yg, e)
            if method == "gsam":
                n = dot(there, there)
                across = [a - dot(g, there) / n * p if n > 0 else a for a, p in zip(g, there)]
                there = [p - case["alpha"] * a for p, a in zip(there, across)]
            for r, d in zip(result, there):
                r.add_(d, alpha=share)
        if method == "esam":
            rises.sort(key=lambda r: -r[0])
            kept = rises[:math.ceil(case["gamma"] * len(rises))]
            for _, g in kept:
                for r, d in zip(result, g):
                    r.add_(d, alpha=1 / len(kept))
        if method == "looksam":
            self.flat = [s - dot(result, whole) / dot(whole, whole) * g for s, g in zip(result, whole)]
        if method == "friendly":
            old = self.mean
            self.mean = whole if old is None else [case["lambda"] * m + (1 - case["lambda"]) * g for m, g in zip(old, whole)]
        self.t += 1
        return whole_loss, result


def run(case, dtype=torch.float64, theirs=None):
    net = known.Net(case, dtype)
    options = dict(lr=case["lr"], weight_decay=case["weight_decay"])
    if case["base"] == "adam":
        base = torch.optim.AdamW(net.trained, betas=(case["momentum"], 0.999), **options)
    else:
        base = torch.optim.SGD(net.trained, momentum=case["momentum"], nesterov=case["base"] == "nesterov", **options)
    variant = theirs(case, net, options) if theirs else Variant(case, net)
    samples, labels = torch.tensor(case["samples"], dtype=dtype), torch.tensor(case["labels"])
    losses, params = [], []
    for batch in case["batches"]:
        if theirs:
            losses.append(variant(samples[batch], labels[batch]))
        else:
            loss, grads = variant.direction(samples[batch], labels[batch])
            for p, g in zip(net.trained, grads):
                p.grad = g
            base.step()
            losses.append(loss)
        params.append(net.flat())
    return losses, params, net.margin


def package(case, net, options):
    """pytorch-optimizer's own step, where it has one."""
    import pytorch_optimizer as theirs
    options = options | dict(momentum=case["momentum"])

    def closure(x, y):
        def call():
            optimizer.zero_grad()
            loss = net.loss(x, y)
            loss.backward()
            return loss
        return call

    if case["method"] == "gsam":
        class Model(torch.nn.Module):
            pass
        rho = type("Rho", (), {"step": lambda self: case["rho"]})()
        optimizer = theirs.GSAM(net.trained, torch.optim.SGD(net.trained, **options), Model(), rho, alpha=case["alpha"])

        def step(x, y):
            def get():
                optimizer.base_optimizer.zero_grad()
                with torch.enable_grad():
                    loss = net.loss(x, y)
                loss.backward()
                return None, loss.detach()
            return optimizer.step(get)[1].item()
        return step
    if case["method"] == "friendly":
        optimizer = theirs.FriendlySAM(net.trained, torch.optim.SGD, rho=case["rho"], sigma=case["sigma"], lmbda=case["lambda"], **options)
    else:
        optimizer = theirs.LookSAM(net.trained, torch.optim.SGD, rho=case["rho"], k=case["every"], alpha=case["alpha"], **options)

    def step(x, y):
        loss = closure(x, y)()
        optimizer.step(closure(x, y))
        return loss.item()
    return step


cases = []
for index, (name, net, changes) in enumerate(CASES, 1):
    for seed in itertools.count(1000 * index):
        case = known.make_case(name, net, MORE | changes, seed)
        losses, params, margin = run(case)
        if margin >= known.MARGIN:
            break
    report = f"{name:24} f32 within {known.distance(case, run(case, torch.float32)[1], params):.1e}"
    if case["method"] in ("gsam", "friendly", "looksam") and case["m"] == case["batch_size"]:
        report += f", pytorch-optimizer within {known.distance(case, run(case, theirs=package)[1], params):.1e}"
    print(report, file=sys.stderr)
    cases.append(case | dict(loss=losses, params=params))
pathlib.Path("/tmp/golden-variants.json").write_text(json.dumps(dict(cases=cases)))
