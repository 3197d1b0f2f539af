#!/usr/bin/env python3
"""Which of SAM's relatives earn a place on a device: LookSAM, ESAM, Friendly-SAM, GSAM and Nesterov's momentum beside SGD and
SAM, in PyTorch.

    cargo run --release -p flatmin-lab -- experiment features --output FOLDER
    python3 host-sim/evidence/variants_in_torch.py FOLDER

Every method gets the same work, counted in multiply-adds of the tail, and as many trials: six learning rates by two
strengths, chosen for every wearer on the draws of the nine others. A minibatch shares one ascent (m = 16) unless the name says
m = 1. LookSAM, Friendly-SAM and GSAM are compared with the package pytorch-optimizer first, step by step; ESAM is in no
package that we know of. Needs numpy, torch and pytorch-optimizer; takes some minutes. Writes
FOLDER/evidence/variants-in-torch.md.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

from repeat_in_torch import Networks, accuracies, interval

RATES = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02]
BUDGETS = [10, 20]  # epochs of SGD whose multiply-adds all may spend
MOMENTUM, MINIBATCH = 0.9, 16


def by_draw(values, like):
    return values.view(-1, *[1] * (like.dim() - 1))


def norm(gradients):
    """Of every draw, over all its parameters."""
    return sum(g.flatten(1).pow(2).sum(1) for g in gradients).sqrt()


class Method:
    """SGD; the others say what gradient the base optimizer gets in its place."""

    strengths = [dict(weight_decay=1e-3), dict(weight_decay=3e-2)]
    buffers, together, nesterov = 0, MINIBATCH, False

    def __init__(self, networks, weight_decay=1e-3, **own):
        self.networks, self.weight_decay, self.step = networks, weight_decay, 0
        self.__dict__.update(own)

    @staticmethod
    def work(forward, backward):
        """Multiply-adds of a sample's share of a step."""
        return forward + backward

    def plain(self, batch):
        return self.networks.gradients(*batch, 0.0)

    def gradient(self, batch):
        return self.plain(batch)

    @torch.no_grad()
    def climb(self, direction, mask=None):
        """To w + rho d / ||d||; returns what leads back."""
        length = self.rho / norm(direction).clamp(min=1e-12)
        kept = [w.clone() for w in self.networks.parameters]
        for index, (w, d) in enumerate(zip(self.networks.parameters, direction)):
            e = by_draw(length, w) * d
            w.add_(e if mask is None else e * mask[index])
        return kept

    @torch.no_grad()
    def return_to(self, kept):
        for w, k in zip(self.networks.parameters, kept):
            w.copy_(k)


class Nesterov(Method):
    """SGD with Nesterov's momentum. Its step needs the gradient beside the velocity, which plain momentum gathers it in."""

    buffers, nesterov = 1, True


class Sam(Method):
    """Foret et al. 2020, algorithm 1."""

    strengths = [dict(rho=0.05), dict(rho=0.2)]

    @staticmethod
    def work(forward, backward):
        return 2 * (forward + backward)

    def gradient(self, batch):
        kept = self.climb(self.plain(batch))
        risen = self.plain(batch)
        self.return_to(kept)
        return risen


class SamOfOne(Sam):
    """The same with an ascent for every sample."""

    together = 1


class NesterovSamOfOne(SamOfOne):
    """The same around Nesterov's momentum."""

    buffers, nesterov = 1, True


class LookSam(Method):
    """Liu et al. 2022, algorithm 1: the part of SAM's gradient across the plain one is used again for k - 1 steps."""

    strengths = [dict(rho=0.1, alpha=0.3), dict(rho=0.1, alpha=0.7)]
    k, buffers = 4, 1

    @staticmethod
    def work(forward, backward):
        return (forward + backward) * (1 + 1 / LookSam.k)

    def gradient(self, batch):
        plain = self.plain(batch)
        size = lambda g: by_draw(g.flatten(1).norm(dim=1), g)
        if self.step % self.k == 0:
            kept = self.climb(plain)
            risen = self.plain(batch)
            self.return_to(kept)
            unit = [g / size(g).clamp(min=1e-12) for g in plain]
            along = [by_draw((s * u).flatten(1).sum(1), s) for s, u in zip(risen, unit)]
            self.across = [s - a * u for s, a, u in zip(risen, along, unit)]
            return risen
        return [g + self.alpha * size(g) / (size(v) + 1e-8) * v for g, v in zip(plain, self.across)]


class FriendlySam(Sam):
    """Li et al. 2024: the ascent leaves out what a running mean says is common to all minibatches."""

    buffers, sigma, decay = 1, 1.0, 0.9

    def gradient(self, batch):
        plain = self.plain(batch)
        if self.step == 0:
            self.mean, direction = [g.clone() for g in plain], plain
        else:
            direction = [g - self.sigma * m for g, m in zip(plain, self.mean)]
            self.mean = [self.decay * m + (1 - self.decay) * g for g, m in zip(plain, self.mean)]
        kept = self.climb(direction)
        risen = self.plain(batch)
        self.return_to(kept)
        return risen


class Gsam(Sam):
    """Zhuang et al. 2022, algorithm 1: against the part of the plain gradient that is across the risen one."""

    strengths = [dict(rho=0.1, alpha=0.1), dict(rho=0.1, alpha=0.4)]
    buffers = 1

    def gradient(self, batch):
        plain = self.plain(batch)
        kept = self.climb(plain)
        risen = self.plain(batch)
        self.return_to(kept)
        along = sum((p * r).flatten(1).sum(1) for p, r in zip(plain, risen)) / norm(risen).pow(2).clamp(min=1e-12)
        return [r - self.alpha * (p - by_draw(along, r) * r) for p, r in zip(plain, risen)]


class Esam(Sam):
    """Du et al. 2022: a random share of the parameters is perturbed, and those samples alone descend whose loss rises most."""

    parameters_share, samples_share = 0.6, 0.5

    @staticmethod
    def work(forward, backward):
        # Both passes' losses, the plain gradient, that of half of the samples at w + e.
        return 2 * forward + backward + Esam.samples_share * backward

    def losses(self, batch):
        with torch.no_grad():
            logits = self.networks.forward(batch[0])
            flat = F.cross_entropy(logits.flatten(0, 1), batch[1].flatten(), reduction="none")
        return flat.view(batch[1].shape)

    def gradient(self, batch):
        plain, before = self.plain(batch), self.losses(batch)
        share = self.parameters_share
        mask = [(torch.rand_like(w) < share).float() / share for w in self.networks.parameters]
        kept = self.climb(plain, mask)
        rise = self.losses(batch) - before
        count = max(1, round(self.samples_share * rise.shape[1]))
        rows = rise.argsort(1, descending=True)[:, :count]
        draws = torch.arange(len(rows)).unsqueeze(1)
        risen = self.plain((batch[0][draws, rows], batch[1][draws, rows]))
        self.return_to(kept)
        return risen


METHODS = {
    "SGD": Method,
    "SGD, Nesterov": Nesterov,
    "SAM": Sam,
    "SAM, m = 1": SamOfOne,
    "SAM, m = 1, Nesterov": NesterovSamOfOne,
    "LookSAM, k = 4": LookSam,
    "ESAM": Esam,
    "Friendly-SAM": FriendlySam,
    "GSAM": Gsam,
}


def macs(layers):
    """Of a sample's forward and of its backward pass; the first layer's input has no gradient."""
    weights = [inputs * outputs for inputs, outputs in layers]
    return sum(weights), 2 * sum(weights) - weights[0]


def train(kind, strength, rate, epochs, layers, flat, x, y):
    networks = Networks(layers, flat)
    method = kind(networks, **strength)
    decayed = [w for w in networks.parameters if w.dim() == 3]
    others = [w for w in networks.parameters if w.dim() < 3]
    groups = [{"params": decayed, "weight_decay": method.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM, nesterov=method.nesterov)
    draws, samples = y.shape
    steps = epochs * -(-samples // MINIBATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.5 * (1 + np.cos(np.pi * min(t, steps) / steps)))
    rows = torch.arange(draws).unsqueeze(1)
    torch.manual_seed(1)
    for _ in range(epochs):
        order = torch.stack([torch.randperm(samples) for _ in range(draws)])
        for start in range(0, samples, MINIBATCH):
            own = order[:, start : start + MINIBATCH]
            sums = [torch.zeros_like(w) for w in networks.parameters]
            for first in range(0, own.shape[1], method.together):
                part = own[:, first : first + method.together]
                share = part.shape[1] / own.shape[1]
                for s, g in zip(sums, method.gradient((x[rows, part], y[rows, part]))):
                    s.add_(g, alpha=share)
            for w, s in zip(networks.parameters, sums):
                w.grad = s
            optimizer.step()
            schedule.step()
            method.step += 1
    return networks


def check():
    """The update of every variant against its namesake in pytorch-optimizer, over ten steps of one small network."""
    import pytorch_optimizer as theirs

    generator = torch.Generator().manual_seed(3)
    layers = [(5, 6), (6, 3)]
    flat = torch.randn(1, sum(i * o + o for i, o in layers), generator=generator).numpy() * 0.4
    x, y = torch.randn(1, 12, 5, generator=generator), torch.randint(0, 3, (1, 12), generator=generator)
    for name, kind, strength in [
        ("LookSAM", LookSam, dict(rho=0.1, alpha=0.7)),
        ("FriendlySAM", FriendlySam, dict(rho=0.2)),
        ("GSAM", Gsam, dict(rho=0.1, alpha=0.4)),
    ]:
        ours, other = Networks(layers, flat), Networks(layers, flat)
        method = kind(ours, **strength)
        base = torch.optim.SGD(ours.parameters, lr=0.1)
        kwargs = dict(lr=0.1, rho=strength["rho"], adaptive=False)
        if name == "GSAM":
            plain = torch.optim.SGD(other.parameters, lr=0.1)
            fixed = type("Fixed", (), {"step": lambda self: strength["rho"]})()
            optimizer = theirs.GSAM(other.parameters, plain, torch.nn.Module(), fixed, alpha=strength["alpha"])
        elif name == "LookSAM":
            optimizer = theirs.LookSAM(other.parameters, torch.optim.SGD, k=LookSam.k, alpha=strength["alpha"], **kwargs)
        else:
            optimizer = theirs.FriendlySAM(other.parameters, torch.optim.SGD, **kwargs)

        def closure():
            optimizer.zero_grad()
            if name == "GSAM":
                plain.zero_grad()
            with torch.enable_grad():
                logits = other.forward(x)
                loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
                loss.backward()
            return (logits, loss.detach()) if name == "GSAM" else loss

        for step in range(10):
            for w, g in zip(ours.parameters, method.gradient((x, y))):
                w.grad = g
            base.step()
            method.step += 1
            if name != "GSAM":
                closure()
            optimizer.step(closure)
            apart = max((a - b).abs().max().item() for a, b in zip(ours.parameters, other.parameters))
            assert apart < 1e-5, f"{name}, step {step}: {apart} from pytorch-optimizer's"
        print(f"{name}: ten steps as pytorch-optimizer's", file=sys.stderr)


def chosen(table, subjects):
    """For every draw the accuracy of the trial that is best on average over the other subjects' draws."""
    return np.array([table[table[:, subjects != s].mean(1).argmax(), draw] for draw, s in enumerate(subjects)])


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    torch.set_num_threads(1)
    check()
    cases = json.loads((folder / "features/cases.json").read_text())["cases"]
    lines = [
        "# SAM's relatives at equal work\n",
        "`host-sim/evidence/variants_in_torch.py` trains them in PyTorch on the features that `flatmin experiment features` writes: "
        "the bundled task, ten wearers, four draws each. All methods spend the same multiply-adds of the tail and have twelve "
        "trials, chosen for every wearer on the nine others. LookSAM (arXiv 2203.02714), Friendly-SAM (2403.12350) and GSAM "
        "(2203.08065) step as their namesakes in pytorch-optimizer do; ESAM (2110.03141) was written from the paper. Bytes are "
        "those of the f32 state: weights, velocity, the ascent's gradient where it is shared, and the method's own buffer. "
        "Accuracy of the f32 tail in percent; 95 % intervals over wearers.\n",
        "| experiment | work | method | epochs | bytes a parameter | accuracy | difference to SGD |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for case in cases[:2]:
        load = lambda name: np.load(folder / f"features/{name}-{case['file']}.npy")
        x, y = torch.tensor(load("x")), torch.tensor(load("y")).long()
        test_x, test_y = torch.tensor(load("test-x")), torch.tensor(load("test-y")).long()
        subjects = np.array(case["subjects"])
        forward, backward = macs(case["layers"])
        for budget in BUDGETS:
            base = None
            for name, kind in METHODS.items():
                epochs = max(1, round(budget * (forward + backward) / kind.work(forward, backward)))
                trials = [(s, r) for s in kind.strengths for r in RATES]
                table = []
                for strength, rate in trials:
                    networks = train(kind, strength, rate, epochs, case["layers"], load("weights"), x, y)
                    table.append(accuracies(networks, case["tests"], test_x, test_y))
                values = chosen(np.array(table), subjects)
                base = values if base is None else base
                text = ""
                if base is not values:
                    low, high = interval(values - base, subjects)
                    text = f"{(values - base).mean():+.2f} [{low:+.2f}, {high:+.2f}]"
                # Weights, velocity and, where m is above 1, the ascent's gradient.
                bytes_each = 4 * (2 + (issubclass(kind, (Sam, LookSam)) and kind.together > 1) + kind.buffers)
                lines.append(f"| {case['name']} | {budget} epochs of SGD | {name} | {epochs} | {bytes_each} | {values.mean():.2f} | {text} |")
                print(lines[-1], flush=True)
    section = folder / "evidence" / "variants-in-torch.md"
    section.parent.mkdir(exist_ok=True)
    section.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
