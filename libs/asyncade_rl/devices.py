"""Where tensors are computed, and in which precision that is fastest there."""

from __future__ import annotations

import torch

from asyncade_rl.choices import Device, Precision


class DeviceError(ValueError):
    """A device that this machine or this build of torch does not have."""


def find_device(name: Device) -> torch.device:
    """Returns the device of this name; ``auto`` is a GPU where there is one.

    Raises:
        DeviceError: a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise DeviceError(
            "torch sees no GPU: use --device=cpu, or on a machine with one install a CUDA build of "
            "torch (make setup TORCH=torch==2.13.0)"
        )
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def fastest_precision(device: torch.device) -> Precision:
    """Returns bfloat16 where the device has instructions for it, else float32.

    On processors those are AVX512-BF16; on GPUs Ampere's and later. Elsewhere bfloat16 is
    emulated, and slower than float32.
    """
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bfloat16" if supported else "float32"


def prepare_processor(threads: int) -> None:
    """Sets torch up for this process's arithmetic, before any is done.

    Denormal numbers become zero. Where gradients vanish, Adam's moments fade through them, and a
    step in which many are denormal takes about ten times as long.

    Args:
        threads: of torch. They take over how numbers are rounded from the thread that starts them.
    """
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
