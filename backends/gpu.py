"""A GPU: whether there is one, and its context."""

from __future__ import annotations

from pathlib import Path

#: How PyTorch calls it, AMD's too.
DEVICE = "cuda"
#: What the drivers of NVIDIA, Windows and AMD make. To ask a driver would start it in this process, whose
#: forks could then use no GPU.
_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def gpu_there() -> bool:
    """Whether a driver of a GPU is loaded."""
    return any(Path(path).exists() for path in _DRIVERS)


def start() -> None:
    """Make PyTorch's context, whose address space would otherwise count as that of the first call."""
    import torch

    torch.zeros(1, device=DEVICE).sum().item()
