"""The devices of a run: exactly the requested ones, or an error; and a description for the log."""

import os
from typing import Any

from components.shared import runlog, storage
from components.shared.errors import StorageError, UsageError

with runlog.hold_stderr():
    import keras
    import tensorflow as tf

DRIVER_FILE, CPU_FILE = "/proc/driver/nvidia/version", "/proc/cpuinfo"


def _read(path: str) -> list[str]:
    """Read a file of the system; no lines where the system has none such."""
    try:
        return storage.read_text(path).splitlines()
    except StorageError:
        return []


def describe(gpus: list[tf.config.PhysicalDevice], precision: str) -> dict[str, Any]:
    """Say what a run computes with.

    Args:
        gpus: the GPUs in use; none: the CPU.
        precision: of the layers.

    Returns:
        Device, threads on a CPU or driver, CUDA and cuDNN on a GPU, precision, and versions: strings and numbers.
    """
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    if not gpus:
        models = [line.partition(":")[2].strip() for line in _read(CPU_FILE) if line.startswith("model name")]
        device = models[0] if models else "CPU of an unknown model"
        return {"device": device, "threads": len(os.sched_getaffinity(0)), "precision": precision, **versions}
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    build = tf.sysconfig.get_build_info()
    if precision == "float32" and tf.config.experimental.tensor_float_32_execution_enabled():
        precision = "float32, products in TF32 where the device has it"
    return {
        "device": ", ".join(detail.get("device_name", "GPU of an unknown model") for detail in details),
        "driver": next(iter(_read(DRIVER_FILE)), "unknown").removeprefix("NVRM version:").strip(),
        "cuda": build.get("cuda_version", "unknown"),
        "cudnn": build.get("cudnn_version", "unknown"),
        "precision": precision,
        **versions,
    }


def use(gpus: int, precision: str, log: runlog.RunLog) -> dict[str, Any]:
    """Make exactly the requested GPUs visible, and log the devices of the run.

    Args:
        gpus: how many; 0: the CPU only.
        precision: of the layers, for the log.
        log: for one line.

    Returns:
        What `describe` says.

    Raises:
        UsageError: there are fewer.
    """
    with runlog.hold_stderr():
        found = tf.config.list_physical_devices("GPU")
    if gpus > len(found):
        raise UsageError(
            f"--gpus: asked for {gpus}, found {len(found)} ({', '.join(gpu.name for gpu in found) or 'none'}). "
            f"Ask for --gpus {len(found)}, or check the driver and the container's GPU runtime"
        )
    if len(found) > gpus:
        tf.config.set_visible_devices(found[:gpus], "GPU")
    described = describe(found[:gpus], precision)
    log.info("devices", gpus=gpus, **described)
    return described
