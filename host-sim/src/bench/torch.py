"""Behind timing.py. Nanoseconds a training step of PyTorch on one thread, SGD with momentum and SAM over the minibatch: one JSON object."""

import json

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(1)



def bundled():
    """The bundled network's seven layers with weights, over 100 samples of six channels."""
    return nn.Sequential(
        nn.Conv1d(6, 24, 7, stride=2), nn.ReLU(),
        nn.Conv1d(24, 24, 5, padding=2, groups=24), nn.ReLU(),
        nn.Conv1d(24, 32, 1), nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(32, 32, 8, groups=32), nn.ReLU(),
        nn.Conv1d(32, 48, 1), nn.ReLU(),
        nn.AvgPool1d(4), nn.Flatten(),
        nn.Linear(192, 64), nn.ReLU(),
        nn.Linear(64, 7),
    )


CASES = {
    "dense_64_32_10_b16": (nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), (64,), 10, 16),
    "dense_1280_100_b8": (nn.Linear(1280, 100), (1280,), 100, 8),
    "bundled_7_layers_b16": (bundled(), (6, 100), 7, 16),
}


def steps(model, inputs, classes, batch):
    x, y = torch.randn(batch, *inputs), torch.arange(batch) % classes
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.001, momentum=0.9)
    loss = nn.CrossEntropyLoss()

    def sgd():
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

    def sam(rho=0.05):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        with torch.no_grad():
            gradients = [p.grad for p in parameters]
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            saved = [p.detach().clone() for p in parameters]
            torch._foreach_add_(parameters, torch._foreach_mul(gradients, rho / (norm + 1e-12)))
        optimizer.zero_grad()
        loss(model(x), y).backward()
        with torch.no_grad():
            torch._foreach_copy_(parameters, saved)
        optimizer.step()

    return {"sgd": sgd, "sam": sam}


print(
    json.dumps(
        {f"{name}_{method}": fastest(step) for name, case in CASES.items() for method, step in steps(*case).items()}
    )
)
