"""Measure answers of known quality: python benchmarks/calibration/answers.py ANSWERS.json

1319 questions (as many as GSM8K's test split) are answered by the bundled reasoning model, greedily
on two servers and sampled in REPEATS runs, and by copies of it whose weights were rounded to fewer
bits: quantisations that are really worse. Stored is which answers were right. About five minutes;
nothing here depends on the clock.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pytest_rllm import ACCURACY, Arm, Sampling, Serving, closed
from pytest_rllm.datasets.prompts import Prompt, choose
from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.vllm import VllmEngine
from pytest_rllm.models import ModelPair, pair_named
from pytest_rllm.records.header import Header
from pytest_rllm.session.live import Live
from pytest_rllm.session.run_blocks import header_of
from pytest_rllm.session.sources import Place
from pytest_rllm.telemetry.gpu import Gpu

QUESTIONS = 1319
REPEATS = 2
WORSE = {"4 bits": 4, "3 bits": 3}
GROUP = 32
"""Weights that share a scale."""
CALIBRATION = Header(finding="calibration")


def rounded(source: Path, target: Path, bits: int) -> None:
    """Copy a checkpoint with its linear layers' weights rounded to ``bits`` (nearest, symmetric,
    a scale per GROUP weights of a row), stored in their own type."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target)
    for file in target.glob("*.safetensors"):
        tensors = load_file(file)
        for name, weight in tensors.items():
            if not name.endswith("_proj.weight"):
                continue
            groups = weight.float().reshape(weight.shape[0], -1, GROUP)
            most = 2 ** (bits - 1) - 1
            scale = groups.abs().amax(dim=-1, keepdim=True).clamp(min=1e-8) / most
            near = torch.round(groups / scale).clamp(-most - 1, most) * scale
            tensors[name] = near.reshape(weight.shape).to(weight.dtype)
        save_file(tensors, file, metadata={"format": "pt"})


def right(
    pair: ModelPair, prompts: Sequence[Prompt], samplings: Sequence[Sampling], folder: Path
) -> list[str]:
    """One server, one run per sampling: a digit per question, in the prompts' order."""
    engine = VllmEngine()
    found = []
    with Pool(folder) as pool:
        live = Live(lambda _name: engine, pair, pool, Gpu(), folder, lambda *_: None)
        for i, sampling in enumerate(samplings):
            arm = Arm(Serving(), prompts, closed(16), sampling)
            live.prepare([arm])
            header = header_of(arm, CALIBRATION, name="answers", side=None, blocks=1)
            run = live.run(arm, Path(f"{i}.jsonl"), header, Place())
            numbers = ACCURACY.of_questions(run)
            found.append("".join(f"{numbers[prompt.id]:.0f}" for prompt in prompts))
            print(
                f"{pair.name}, run {i + 1}: {found[-1].count('1') / len(prompts):.1%}", flush=True
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("answers", type=Path)
    given = parser.parse_args()
    pair = pair_named("tiny")
    prompts = choose(pair.tiers, *pair.tiers, n=QUESTIONS)
    greedy, sampled = Sampling(pair.generous, 0.0), Sampling(pair.generous)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {
            "greedy": right(pair, prompts, [greedy], folder / "1")
            + right(pair, prompts, [greedy], folder / "2"),
            "sampled": right(pair, prompts, [sampled] * REPEATS, folder / "3"),
        }
        for said, bits in WORSE.items():
            copy = folder / f"{bits}-bits"
            rounded(Path(pair.path("reasoning")), copy, bits)
            worse = replace(pair, name=f"tiny-{bits}-bits", reasoning=str(copy))
            found[f"greedy, {said}"] = right(worse, prompts, [greedy], folder / said)
    tiers = "".join(prompt.tier[0] for prompt in prompts)
    given.answers.write_text(json.dumps({"tiers": tiers, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
