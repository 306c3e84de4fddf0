"""Compute devices, their fastest precision, and torch's set-up on the processor."""

from __future__ import annotations

import torch

from asyncade_rl.choices import Device, Precision


class DeviceError(ValueError):
    """This machine or this build of torch does not have the device."""


def find_device(name: Device) -> torch.device:
    """Returns the device of this name; ``auto`` picks a GPU if there is one.

    Raises:
        DeviceError: torch sees no GPU and ``cuda`` is requested.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise DeviceError(
            "torch sees no GPU: use --device=cpu, or on a machine with one install a CUDA build of "
            "torch (make setup TORCH=torch==2.13.0)"
        )
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def fastest_precision(device: torch.device) -> Precision:
    """Returns bfloat16 if the device has instructions for it, else float32.

    Processors need AVX512-BF16, GPUs Ampere or later. Elsewhere bfloat16 is emulated and slower
    than float32.
    """
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bfloat16" if supported else "float32"


def prepare_processor(threads: int) -> None:
    """Sets torch's number of threads and rounds denormal numbers to zero.

    Where gradients vanish, Adam's moments decay through the denormal range, and an optimiser step
    with many denormals takes about ten times as long. Call this before any arithmetic: torch's
    threads inherit the rounding of the thread that starts them.
    """
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
