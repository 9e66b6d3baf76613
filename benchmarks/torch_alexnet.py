"""A training step of alexnet-2012's layers in PyTorch, as people write it there, taken for each line on standard input.

    python -m benchmarks.torch_alexnet BATCH_SIZE

`groups=2`, `LocalResponseNorm` (across both towers), channels_last and `SGD`; the input is float32 already. Needs
torch and nothing of this project. Prints torch's version, then the seconds of each step.
"""

import os
import sys
import time
from collections.abc import Callable

import torch


def make_step(batch_size: int) -> Callable[[], float]:
    """Make the step, which returns its loss."""
    nn, functional = torch.nn, torch.nn.functional

    class SpatialNorm(nn.Module):
        def forward(self, x):
            return x * (1 + 4e-5 * 25 * functional.avg_pool2d(x * x, 5, 1, 2)) ** -0.75

    class Mask(nn.Module):
        def forward(self, x):
            return x * (torch.rand_like(x) < 0.5)

    def lrn():
        return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2)

    model = nn.Sequential(
        nn.ZeroPad2d((0, 3, 0, 3)), nn.Conv2d(3, 96, 11, stride=4), lrn(), nn.MaxPool2d(3, 2), nn.ReLU(),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), lrn(), SpatialNorm(), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.MaxPool2d(3, 2), nn.ReLU(), nn.Flatten(),
        nn.Linear(9216, 4096), nn.ReLU(), Mask(), nn.Linear(4096, 4096), nn.ReLU(), Mask(), nn.Linear(4096, 1000),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=0.0005)
    images = torch.randn(batch_size, 3, 224, 224).to(memory_format=torch.channels_last) * 50
    labels = torch.randint(0, 1000, (batch_size,))

    def step() -> float:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    """Step when told."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    step = make_step(int(sys.argv[1]))
    print(torch.__version__, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
