"""Hours and money of a full training of alexnet-2012 on two GPUs, on paper: a model of the step, printed as a table.

    python -m benchmarks.cost [--images-per-core N] [NAME=PRICE ...]     # dollars an hour and GPU: T4=0.35 "H100 SXM=3"

Nothing here was measured on a GPU. A step of 128 images is the sum of four times on each device, none hidden behind
another: arithmetic, activations, parameters, exchange; or the time to launch it, if that is longer. What
`benchmarks.gpu_step` measures on your device is to be believed before it.
"""

import argparse
from dataclasses import dataclass

from benchmarks.steps import gflop_per_image
from components.train.net import network
from components.train.recipes.alexnet_2012 import ALEXNET_2012

TRAIN_IMAGES, VALIDATION_IMAGES, SAMPLED_VALIDATION = 1_261_406, 50_000, 1024
GPUS = 2
CORE_RATE = 3300  # images/s a core of the input path, docs/explain/log.md
# Of the published peak, for convolutions and matrix products. NVIDIA's times of 90 epochs of ResNet-50 v1.5 (NGC's
# resnet_mxnet, one GPU; 24.6 GFLOP an image) come to 0.59 in fp32 (V100), 0.17 in tf32 and 0.29 in 16 bits (A100),
# everything included. Here memory is counted apart and filters are larger.
ARITHMETIC_SHARE = {"fp32": 0.6, "tf32": 0.3, "bf16": 0.3}
MEMORY_SHARE = 0.8
ACTIVATION_PASSES = 5  # every layer's output: written, read by the next; its gradient too, and the value read once more
# Read forward and backward, gradient written; in the update gradient, weight and velocity read, two written.
PARAMETER_PASSES = 8
LAUNCH_MS = 3.0  # assumed: some 600 kernels of 5 microseconds each, and the call from Python


@dataclass(frozen=True)
class Device:
    """Published peaks of one GPU, and what it is assumed to cost."""

    name: str
    tflops: dict[str, float]  # by precision, dense
    memory_gbps: float
    link_gbps: float  # from one GPU to the other, one direction
    host_gbps: float  # from the host, in practice
    dollars: float  # an hour and GPU, on demand


# Peaks: NVIDIA's data sheets; TensorFlow computes float32 as tf32 where there is tf32. Links: PCIe 3.0 x16, NVLink 3,
# NVLink 4; hosts: PCIe 3, 4, 5. Prices: round numbers for virtual machines on demand, of 20 November 2026, assumed and
# not looked up: give your own.
DEVICES = (
    Device("T4", {"fp32": 8.1}, 320, 12, 12, 0.4),
    Device("A100 40GB", {"tf32": 156, "bf16": 312}, 1555, 300, 25, 3.0),
    Device("H100 SXM", {"tf32": 495, "bf16": 989}, 3350, 450, 50, 5.0),
)


@dataclass(frozen=True)
class Step:
    """Milliseconds of one step of 128 images on each of two devices."""

    arithmetic: float
    activations: float
    parameters: float
    exchange: float

    @property
    def total(self) -> float:
        """Sum them, or take the time of the launch."""
        return max(LAUNCH_MS, self.arithmetic + self.activations + self.parameters + self.exchange)

    @property
    def bound(self) -> str:
        """Name the longest part."""
        if self.total == LAUNCH_MS:
            return "launch"
        return max(("arithmetic", "activations", "parameters", "exchange"), key=lambda name: getattr(self, name))


def crossing_units(layers: list[network.Layer]) -> int:
    """Count the values of one image that a tower gets from the other: half of what conv3, fc6, fc7 and fc8 read."""
    shapes = {layer["name"]: layer["shape"] for layer in layers}
    height, width, channels = shapes["concat2"]
    return (height * width * channels + sum(shapes[name][0] for name in ("flatten", "fc6_dropout", "fc7_dropout"))) // 2


def step_of(device: Device, precision: str, parallel: str, batch_size: int = ALEXNET_2012.batch_size) -> Step:
    """Model a step; `data` halves the images, `towers` the network and with it the parameters."""
    layers = network.build(ALEXNET_2012, 1000)
    width = 2 if precision == "bf16" else 4
    memory = MEMORY_SHARE * device.memory_gbps * 1e6  # bytes a millisecond
    units = sum(shape_units(layer) for layer in layers)
    parameters = network.totals(layers)["num_parameters"] * 4
    towers = parallel == "towers"
    crops = batch_size * 224 * 224 * 3 / (1 if towers else GPUS)  # each tower sees every image
    # An all-reduce sends 2 (n - 1) / n of the gradients from each device; towers send what crosses and its gradient.
    sent = batch_size * crossing_units(layers) * width * 2 if towers else parameters * 2 * (GPUS - 1) / GPUS
    return Step(
        arithmetic=batch_size / GPUS * gflop_per_image(layers) / ARITHMETIC_SHARE[precision] / device.tflops[precision],
        activations=batch_size / GPUS * units * width * ACTIVATION_PASSES / memory,
        parameters=parameters * PARAMETER_PASSES / (GPUS if towers else 1) / memory,
        exchange=sent / (device.link_gbps * 1e6) + crops / (device.host_gbps * 1e6),
    )


def shape_units(layer: network.Layer) -> int:
    """Count the values of a layer's output."""
    result = 1
    for size in layer["shape"]:
        result *= size
    return result


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__.splitlines()[0])
    parser.add_argument("prices", nargs="*", metavar="NAME=PRICE", help="dollars an hour and GPU")
    parser.add_argument("--images-per-core", type=float, default=CORE_RATE)
    flags = parser.parse_args()
    prices = {name: float(price) for name, _, price in (word.partition("=") for word in flags.prices)}
    if unknown := set(prices) - {device.name for device in DEVICES}:
        parser.error(f"expected prices of {', '.join(device.name for device in DEVICES)}, got {', '.join(unknown)}")
    epochs = ALEXNET_2012.num_epochs
    # Validation is forward only, a third of the work.
    images = epochs * TRAIN_IMAGES + ((epochs - 1) * SAMPLED_VALIDATION + VALIDATION_IMAGES) / 3
    print("| two | precision | parallel | arithmetic + activations + parameters + exchange, ms | step, ms | images/s |"
          " hours | $ an hour and GPU | $ | bound by | input cores |")  # fmt: skip
    print("| --- " * 11 + "|")
    for device in DEVICES:
        dollars = prices.get(device.name, device.dollars)
        for precision in device.tflops:
            for parallel in ("data", "towers"):
                step = step_of(device, precision, parallel)
                rate = 1000 * ALEXNET_2012.batch_size / step.total
                hours = images / rate / 3600
                parts = (step.arithmetic, step.activations, step.parameters, step.exchange)
                cells = [device.name, precision, parallel, " + ".join(f"{part:.1f}" for part in parts)]
                cells += [f"{step.total:.1f}", f"{rate:,.0f}", f"{hours:.1f}", f"{dollars:.2f}"]
                cells += [f"{GPUS * dollars * hours:,.0f}", step.bound, f"{rate / flags.images_per_core:.1f}"]
                print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
