#!/usr/bin/env python3
"""Repeats three experiments in PyTorch, with SAM and ASAM as published, on the features that flatmin used.

    cargo run --release -p flatmin-lab -- experiment features --output FOLDER
    python3 host-sim/evidence/repeat_in_torch.py FOLDER

Nothing of flatmin's arithmetic is used: autograd gives the gradients, two explicit passes the ascent and the descent
(Foret et al. 2020, algorithm 1; Kwon et al. 2021, equation 3 with eta = 0.01 on weights and T = 1 on biases, as in their
code), torch the cross-entropy. The order of samples is torch's own, so that single runs differ and means must agree.
All draws of an experiment are trained at once, as a batch of networks that share nothing.
Exits with 1 if a mean or a difference to SGD is not within the 95 % intervals. Needs numpy and torch.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

RESAMPLES = 10_000


class Networks:
    """One small dense network a draw; parameters are stacked along the first axis."""

    def __init__(self, layers, flat):
        self.parameters, start = [], 0
        for inputs, outputs in layers:
            for shape in ((outputs, inputs), (outputs,)):
                length = int(np.prod(shape))
                part = flat[:, start : start + length].reshape(len(flat), *shape)
                self.parameters.append(torch.tensor(part, requires_grad=True))
                start += length
        assert start == flat.shape[1]

    def forward(self, x):
        """x: [draws, samples, features]."""
        for index in range(0, len(self.parameters), 2):
            weight, bias = self.parameters[index : index + 2]
            x = torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))
            if index + 2 < len(self.parameters):
                x = torch.relu(x)
        return x

    def gradients(self, x, y, smoothing):
        """Of every draw's mean loss."""
        logits = self.forward(x)
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten(), label_smoothing=smoothing, reduction="none")
        return torch.autograd.grad(loss.view(len(x), -1).mean(1).sum(), self.parameters)


class SharpnessAware:
    """first_step climbs to w + e, second_step goes back; each draw has a norm of its own."""

    def __init__(self, networks, rho, adaptive, eta):
        self.networks, self.rho, self.adaptive, self.eta = networks, rho, adaptive, eta

    def scales(self):
        for w in self.networks.parameters:
            is_weight = w.dim() == 3
            yield w.abs() + self.eta if self.adaptive and is_weight else torch.ones_like(w)

    @torch.no_grad()
    def first_step(self, gradients):
        scaled = [t * g for t, g in zip(self.scales(), gradients)]
        norm = sum(s.flatten(1).pow(2).sum(1) for s in scaled).sqrt()
        length = torch.where(norm > 1e-12, self.rho / norm.clamp(min=1e-12), torch.zeros_like(norm))
        self.kept = [w.clone() for w in self.networks.parameters]
        for w, t, s in zip(self.networks.parameters, list(self.scales()), scaled):
            w.add_(length.view(-1, *[1] * (w.dim() - 1)) * t * s)

    @torch.no_grad()
    def second_step(self):
        for w, kept in zip(self.networks.parameters, self.kept):
            w.copy_(kept)


def train(layers, flat, x, y, setting, common):
    networks = Networks(layers, flat)
    sam = None
    if setting["method"] != "Sgd":
        sam = SharpnessAware(networks, setting["rho"], setting["method"] == "Asam", common["eta"])
    decayed = [w for w in networks.parameters if w.dim() == 3]
    others = [w for w in networks.parameters if w.dim() < 3]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": setting["weight_decay"]}, {"params": others, "weight_decay": 0.0}],
        lr=setting["learning_rate"],
        momentum=common["momentum"],
    )
    draws, samples = y.shape
    size, together = common["minibatch"], setting["sharpness_batch"]
    steps = setting["epochs"] * -(-samples // size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.5 * (1 + np.cos(np.pi * min(t, steps) / steps)))
    rows = torch.arange(draws).unsqueeze(1)
    for _ in range(setting["epochs"]):
        order = torch.stack([torch.randperm(samples) for _ in range(draws)])
        for start in range(0, samples, size):
            batch = order[:, start : start + size]
            sums = [torch.zeros_like(w) for w in networks.parameters]
            group = together if sam else batch.shape[1]
            for first in range(0, batch.shape[1], group):
                own = batch[:, first : first + group]
                share = own.shape[1] / batch.shape[1]
                part = (x[rows, own], y[rows, own], setting["label_smoothing"])
                gradients = networks.gradients(*part)
                if sam:
                    sam.first_step(gradients)
                    gradients = networks.gradients(*part)
                    sam.second_step()
                for s, g in zip(sums, gradients):
                    s.add_(g, alpha=share)
            for w, s in zip(networks.parameters, sums):
                w.grad = s
            optimizer.step()
            schedule.step()
    return networks


def accuracies(networks, tests, x, y):
    """In percent, draw by draw: each has as many test samples as its wearer."""
    ends = np.cumsum(tests)
    longest = max(tests)
    padded = torch.zeros(len(tests), longest, x.shape[1])
    for draw, end in enumerate(ends):
        padded[draw, : tests[draw]] = x[end - tests[draw] : end]
    with torch.no_grad():
        answers = networks.forward(padded).argmax(2)
    right = lambda draw, end: (answers[draw, : tests[draw]] == y[end - tests[draw] : end]).double().mean().item()
    return np.array([100 * right(draw, end) for draw, end in enumerate(ends)])


def interval(values, subjects):
    """95 %, subjects resampled, then the draws of each."""
    random = np.random.default_rng(95)
    groups = [values[subjects == s] for s in np.unique(subjects)]
    draws = len(groups[0])
    table = np.stack(groups)
    picked = random.integers(len(groups), size=(RESAMPLES, len(groups)))
    within = random.integers(draws, size=(RESAMPLES, len(groups), draws))
    means = table[picked[:, :, None], within].mean((1, 2))
    return np.quantile(means, [0.025, 0.975])


def main():
    folder = pathlib.Path(sys.argv[1])
    common = json.loads((folder / "features/cases.json").read_text())
    torch.manual_seed(1)
    lines = [
        "## The same in PyTorch\n",
        "`host-sim/evidence/repeat_in_torch.py` repeats three experiments from the features, labels and weights that "
        "`flatmin experiment features` writes: autograd, SAM and ASAM as published, the order of samples torch's own. "
        "Accuracy of the f32 tail in percent, and difference to SGD with its 95 % interval over wearers; they agree where the "
        "intervals of the two overlap and no mean is more than a point from the other's.\n",
        "| experiment | method | flatmin | PyTorch | agree |",
        "| --- | --- | --- | --- | --- |",
    ]
    failed = False
    for case in common["cases"]:
        load = lambda name: np.load(folder / f"features/{name}-{case['file']}.npy")
        x, y = torch.tensor(load("x")), torch.tensor(load("y")).long()
        test_x, test_y = torch.tensor(load("test-x")), torch.tensor(load("test-y")).long()
        subjects = np.array(case["subjects"])
        bases = None
        for method in case["methods"]:
            networks = train(case["layers"], load("weights"), x, y, method["setting"], common)
            theirs = np.array(method["accuracy_f32"])
            ours = accuracies(networks, case["tests"], test_x, test_y)
            bases = (theirs, ours) if bases is None else bases
            texts, ranges = [], []
            for values, base in zip((theirs, ours), bases):
                text = f"{values.mean():.2f}"
                if base is not values:
                    low, high = interval(values - base, subjects)
                    ranges.append((low, high))
                    text += f": {(values - base).mean():+.2f} [{low:+.2f}, {high:+.2f}]"
                texts.append(text)
            overlap = not ranges or max(r[0] for r in ranges) <= min(r[1] for r in ranges)
            agree = overlap and abs(theirs.mean() - ours.mean()) <= 1.0
            failed |= not agree
            lines.append(f"| {case['name']} | {method['name']} | {texts[0]} | {texts[1]} | {'yes' if agree else 'NO'} |")
            print(lines[-1], flush=True)
    section = folder / "evidence" / "repeat-in-torch.md"
    section.parent.mkdir(exist_ok=True)
    section.write_text("\n".join(lines) + "\n\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
