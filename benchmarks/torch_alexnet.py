"""A training step of alexnet-2012's layers in PyTorch, as people write it there, taken for each line on standard input.

    python -m benchmarks.torch_alexnet BATCH_SIZE [fp32|tf32|bf16] [eager|compile] [STEPS]

`groups=2`, `LocalResponseNorm` (across both towers), channels_last and `SGD`; the input is float32 already. On a GPU
where there is one. Needs torch and nothing of this project. Prints torch's version, then the seconds of STEPS steps.
"""

import os
import sys
import time
from collections.abc import Callable

import torch


def make_step(batch_size: int, precision: str, mode: str) -> Callable[[], torch.Tensor]:
    """Make the step, which returns its loss."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True
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
    ).to(device, memory_format=torch.channels_last)  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=0.0005)
    images = torch.randn(batch_size, 3, 224, 224, device=device).to(memory_format=torch.channels_last) * 50
    labels = torch.randint(0, 1000, (batch_size,), device=device)
    run = torch.compile(model) if mode == "compile" else model

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            logits = run(images)
        loss = functional.cross_entropy(logits.float(), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def main() -> None:
    """Step when told."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    batch_size, precision, mode, steps = (sys.argv[1:] + ["fp32", "eager", "1"][len(sys.argv) - 2 :])[:4]
    step = make_step(int(batch_size), precision, mode)
    print(torch.__version__, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = [step() for _ in range(int(steps))][-1]
        loss.item()  # waits for the device
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
