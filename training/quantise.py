"""Quantise the bundled models: `python training/quantise.py` (five minutes on one core).

The checkpoints are made by maintained libraries, which need an environment of their own:

    python -m venv .venv-quantise
    pip install torch==2.13.0+cpu --extra-index-url https://download.pytorch.org/whl/cpu
    pip install llmcompressor==0.14.0.1 auto-round==0.15.1 compressed-tensors==0.19.0 \
        transformers==5.17.0 accelerate==1.15.0

Group sizes divide every linear's inputs, and inputs and outputs are multiples of 32. What is
calibrated sees conversations from the training side of the bundled problems.
"""

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from pytest_rllm.datasets import bundled as problems  # noqa: E402
from training import texts  # noqa: E402
from training.checkpoints import pack  # noqa: E402

MODELS = ROOT / "pytest_rllm" / "models"
SAMPLES, LENGTH, GROUP = 256, 512, 128
LEFT_OUT = ["lm_head"]


def conversations(*, thinks: bool) -> list[str]:
    """Texts to calibrate with: of every tier, as the model itself answers them."""
    rng = random.Random("calibration")
    streams = [problems.training(tier, seed=7) for tier in ("easy", "medium", "hard")]
    streams.append(texts.taught(problems.training("knowledge", seed=7)))
    worked = [problem for stream in streams for problem in islice(stream, SAMPLES // 4)]
    pieces = [texts.reasoning(w, rng) if thinks else texts.plain(w) for w in worked]
    return ["".join(text for text, _ in piece) for piece in pieces]


def _compress(folder: Path, out: Path, recipe: Any, *, calibrate: bool) -> None:
    """With llmcompressor, in the format of compressed-tensors."""
    from datasets import Dataset
    from llmcompressor import oneshot

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    more = {}
    if calibrate:
        rows = [
            tokenizer(text, add_special_tokens=False, truncation=True, max_length=LENGTH)
            for text in conversations(thinks="reasoning" in folder.name)
        ]
        more = {
            "dataset": Dataset.from_list([dict(row) for row in rows]),
            "max_seq_length": LENGTH,
            "num_calibration_samples": SAMPLES,
        }
    oneshot(model=model, tokenizer=tokenizer, recipe=recipe, **more)
    model.save_pretrained(out, save_compressed=True)


def int8(folder: Path, out: Path) -> None:
    """8-bit integers: weights per output, activations per token."""
    from llmcompressor.modifiers.quantization import QuantizationModifier

    recipe = QuantizationModifier(targets="Linear", scheme="W8A8", ignore=LEFT_OUT)
    _compress(folder, out, recipe, calibrate=False)


def fp8(folder: Path, out: Path) -> None:
    """8-bit floating point: weights per output, activations per token."""
    from llmcompressor.modifiers.quantization import QuantizationModifier

    recipe = QuantizationModifier(targets="Linear", scheme="FP8_DYNAMIC", ignore=LEFT_OUT)
    _compress(folder, out, recipe, calibrate=False)


def gptq_int4(folder: Path, out: Path) -> None:
    """4-bit integers in groups of 128, rounded by GPTQ; activations in 16 bits."""
    from llmcompressor.modifiers.gptq import GPTQModifier

    recipe = GPTQModifier(targets="Linear", scheme="W4A16", ignore=LEFT_OUT)
    _compress(folder, out, recipe, calibrate=True)


def awq_int4(folder: Path, out: Path) -> None:
    """4-bit integers in groups of 128 with zero points, in AWQ's format, rounded by auto-round."""
    from auto_round import AutoRound

    rounding = AutoRound(
        str(folder),
        scheme="W4A16",
        group_size=GROUP,
        sym=False,
        dataset=conversations(thinks="reasoning" in folder.name),
        nsamples=SAMPLES // 2,
        seqlen=64,
        iters=100,
        device_map="cpu",
        enable_torch_compile=False,
    )
    rounding.quantize_and_save(str(out), format="auto_awq")


KINDS: dict[str, tuple[Callable[[Path, Path], None], tuple[str, ...]]] = {
    "int8-w8a8": (int8, ("tiny-reasoning",)),
    "fp8-w8a8": (fp8, ("tiny-reasoning",)),
    "gptq-int4": (gptq_int4, ("tiny-reasoning", "tiny-plain")),
    "awq-int4": (awq_int4, ("tiny-reasoning",)),
}
"""How each is made, and of which models."""


def main() -> None:
    """Make the checkpoints that the work folder does not hold yet, and the archive of them all."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--work", type=Path, default=Path(".rllm/quantised"), help="kept folders")
    options.add_argument("--out", type=Path, default=MODELS / "tiny-quantized.tar.xz")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(2025)
    made = []
    for kind, (make, models) in KINDS.items():
        for model in models:
            folder = chosen.work / f"{model}-{kind}"
            made.append(folder)
            if folder.exists():
                continue
            with tempfile.TemporaryDirectory(dir=chosen.work.parent) as temporary:
                part = Path(temporary) / "part"
                make(MODELS / model, part)
                found = next(part.rglob("config.json")).parent
                _complete(found, MODELS / model)
                found.rename(folder)
            print(f"{folder.name} made", flush=True)
    pack(made, chosen.out)
    size = chosen.out.stat().st_size / 1e6
    print(f"{chosen.out}: {size:.1f} MB, sha256 {sha256(chosen.out.read_bytes()).hexdigest()}")


def _complete(folder: Path, original: Path) -> None:
    """Only what an engine reads: weights and configuration of the quantised model, the rest of the
    original."""
    kept = {"config.json", "model.safetensors"}
    for file in folder.iterdir():
        if file.name not in kept:
            file.unlink()
        else:
            file.chmod(0o644)
    for file in original.iterdir():
        if file.name not in kept:
            shutil.copy(file, folder / file.name)


if __name__ == "__main__":
    main()
