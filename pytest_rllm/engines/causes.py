"""What lines of a log mean, where a server did not start: why, and what to do, in one sentence.

Here are the causes that no engine has alone: of the driver, of PyTorch, of the hub and of the
operating system. Those in the words of one engine stand in that engine's file (``Launcher.causes``)
and count before these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Cause:
    """One cause.

    Attributes:
        pattern: regular expression that a line of the log has somewhere.
        says: what it means and what to do, as the end of a sentence; ``{name}`` stands for the
            pattern's group of that name.
    """

    pattern: str
    says: str

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    def of(self, lines: Sequence[str]) -> str | None:
        """The sentence, with what the first such line says; None where there is no such line."""
        for line in lines:
            if found := self._compiled.search(line):
                return self.says.format(**found.groupdict())
        return None


FREE_THE_GPU = "stop what else uses the GPU (nvidia-smi lists it)"
NO_NVCC = r"Could not find nvcc|nvcc: not found|No such file or directory: '(?:\S*/)?nvcc'"
"""Kernels are compiled when they are first used, and there is no compiler for them."""
INSTALL_NVCC = (
    "it compiles kernels when they are first used, and finds no nvcc: install the CUDA toolkit of "
    "the version that PyTorch was built for, with nvcc on PATH, or ready-made kernels "
    "(flashinfer-jit-cache and flashinfer-cubin, of the version of flashinfer-python)"
)
KILLED = (
    "it was killed by SIGKILL, as the kernel does when memory of the host runs out (dmesg says "
    "so): free memory, or give the container more of it"
)
NO_ROOM_FOR_CACHE = (
    f"beside the weights no memory is left for the KV cache: {FREE_THE_GPU}, or take a smaller "
    "model or a larger GPU"
)
LONGER_THAN_MADE_FOR = (
    "a context of {asked} tokens was asked for, and the model was made for {made}: say "
    "context_length = {made} or less in the pair's TOML file"
)
_MODEL = r"\S*?//[^/\s]+/(?:api/models/)?(?P<model>[\w.-]+/[\w.-]*\w)"
"""A model's id in an address of the hub."""

CAUSES: tuple[Cause, ...] = (
    Cause(NO_NVCC, INSTALL_NVCC),
    Cause(
        r"NVIDIA driver on your system is too old \(found version (?P<major>\d+)0(?P<minor>\d)0\)",
        "the NVIDIA driver is too old for this build, it knows CUDA {major}.{minor} and no newer: "
        "install a newer driver, or a build for CUDA {major}.{minor}",
    ),
    Cause(
        r"unsupported display driver / cuda driver combination|CUDA driver version is insufficient"
        r"|forward compatibility was attempted|PTX was compiled with an unsupported toolchain"
        r"|CUDA_ERROR_(?:SYSTEM_DRIVER_MISMATCH|COMPAT_NOT_SUPPORTED|UNSUPPORTED_PTX_VERSION)",
        "the NVIDIA driver does not fit the CUDA libraries of this build: install the driver that "
        "they need, or a build for the CUDA version that nvidia-smi shows",
    ),
    Cause(
        r"No CUDA GPUs are available|no CUDA-capable device is detected|CUDA_ERROR_NO_DEVICE"
        r"|Found no NVIDIA driver on your system",
        "no NVIDIA GPU is visible to it: see what nvidia-smi lists, what CUDA_VISIBLE_DEVICES "
        "leaves of it, and in a container whether it was started with --gpus all",
    ),
    Cause(
        r"no kernel image is available for execution|CUDA_ERROR_NO_BINARY_FOR_GPU"
        r"|CUDA capability sm_\d+ is not compatible with the current PyTorch",
        "this build has no kernels for the compute capability of this GPU: take a build that has, "
        "a newer one for a newer GPU",
    ),
    Cause(
        r"(?i)no space left.*\bdev/shm|\bdev/shm\b.*(?:no space left|too small)"
        r"|creating shared memory segment|insufficient shared memory",
        "shared memory (/dev/shm) is too small: start the container with --ipc=host, or with "
        "--shm-size=16g",
    ),
    Cause(
        r"NCCL error\b.*?(?P<what>unhandled \w+ error|internal error|invalid \w+|remote process)",
        "the GPUs could not be joined (NCCL: {what}): with NCCL_DEBUG=INFO its log says why; "
        "NCCL_P2P_DISABLE=1 goes around links between GPUs that do not work",
    ),
    Cause(
        r"CUDA out of memory\. Tried to allocate (?P<more>[\d.]+ \wiB)\. GPU (?P<gpu>\d+) has a "
        r"total capacity of (?P<all>[\d.]+ \wiB) of which (?P<free>[\d.]+ \wiB) is free",
        "memory of GPU {gpu} ran out ({free} of {all} were free when {more} were asked for): "
        f"{FREE_THE_GPU}, or take a smaller model or a larger GPU",
    ),
    Cause(
        r"CUDA out of memory|CUDA error: out of memory|CUDA_ERROR_OUT_OF_MEMORY"
        r"|cudaErrorMemoryAllocation",
        f"memory of the GPU ran out: {FREE_THE_GPU}, or take a smaller model or a larger GPU",
    ),
    Cause(
        rf"Cannot access gated repo for url {_MODEL}",
        "the model {model} is gated: ask for access at https://huggingface.co/{model}, then log in "
        "(hf auth login) or set HF_TOKEN",
    ),
    Cause(
        rf"Repository Not Found for url: {_MODEL}",
        "the hub has no model {model}, or shows it only to those who are let in: correct its id, "
        "or log in (hf auth login)",
    ),
    Cause(
        r"(?P<model>\S+) is not a local folder and is not a valid model identifier",
        "there is no folder {model}, and no model of that id on the hub: correct it",
    ),
    Cause(
        r"OfflineModeIsEnabled|offline mode is enabled|outgoing traffic has been disabled"
        r"|LocalEntryNotFoundError|couldn't find them in the cached files",
        "files of the model are not in the hub's cache on this machine, and the hub could not be "
        "asked: download it first (hf download MODEL), with HF_HUB_OFFLINE unset",
    ),
    Cause(
        r"No space left on device",
        "a disk is full (df -h says which): make room where it writes, as in ~/.cache or HF_HOME",
    ),
    Cause(
        r"[Aa]ddress already in use",
        "a port that it needs was taken by another process meanwhile: start again",
    ),
)
"""The first that the log shows counts."""
