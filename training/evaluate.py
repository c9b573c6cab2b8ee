"""Measure the bundled models with vLLM: `python training/evaluate.py` prints the card's tables.

Every number comes from held-out problems, sampled at temperature 0.6 and top-p 0.95 with as many
tokens as an answer wants. A smaller budget cuts the same sample short, so the accuracy under a
budget is the share of answers that were right and that fit into it.
"""

import argparse
import json
import os
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vllm import LLM, SamplingParams  # noqa: E402

from pytest_rllm.datasets import logic  # noqa: E402
from pytest_rllm.datasets.bundled import Problem, heldout  # noqa: E402
from pytest_rllm.models import PAIRS  # noqa: E402

TIERS = ("easy", "medium", "hard", "knowledge")
BUDGETS = {"medium": (64, 96, 128, 160, 192, 256), "hard": (128, 192, 256, 320, 384, 512, 900)}
GENEROUS = 1500
SPECULATED = 3


@dataclass(frozen=True)
class Answer:
    """One sampled answer: was it right, how many tokens, did it end by itself."""

    right: bool
    tokens: int
    ended: bool


def serve(model: Path, context: int = 2048, **options: Any) -> LLM:
    """The model in this process."""
    return LLM(
        str(model),
        enforce_eager=True,
        max_model_len=context,
        max_num_seqs=64,
        kv_cache_memory_bytes=512 << 20,
        disable_log_stats=False,
        **options,
    )


def ask(
    llm: LLM,
    problems: Sequence[Problem | logic.Puzzle],
    temperature: float = 0.6,
    tokens: int = GENEROUS,
) -> list[Answer]:
    """One sampled answer to each problem."""
    sampling = SamplingParams(temperature=temperature, top_p=0.95, max_tokens=tokens)
    chats = [[{"role": "user", "content": problem.question}] for problem in problems]
    outputs = llm.chat(chats, sampling, use_tqdm=False)
    return [
        Answer(
            right=boxed(output.outputs[0].text) == problem.answer,
            tokens=len(output.outputs[0].token_ids),
            ended=output.outputs[0].finish_reason == "stop",
        )
        for problem, output in zip(problems, outputs, strict=True)
    ]


def boxed(text: str) -> str | None:
    """What stands in the last box of the visible answer, or None."""
    found = re.findall(r"\\boxed\{([^{}]*)\}", text.rpartition("</think>")[2])
    return found[-1] if found else None


def summary(answers: list[Answer]) -> dict[str, float]:
    """Accuracy and truncated share of a tier, and the tokens of its answers."""
    tokens = [answer.tokens for answer in answers]
    tenths = statistics.quantiles(tokens, n=10, method="inclusive")
    return {
        "accuracy": statistics.fmean(answer.right for answer in answers),
        "median_tokens": statistics.median(tokens),
        "p10_tokens": tenths[0],
        "p90_tokens": tenths[-1],
        "truncated": statistics.fmean(not answer.ended for answer in answers),
    }


def accepted(llm: LLM) -> dict[str, float]:
    """How much of what the draft model proposed was kept, from vLLM's counters."""
    values = {metric.name: getattr(metric, "value", 0) for metric in llm.get_metrics()}
    drafts = values["vllm:spec_decode_num_drafts"]
    kept = values["vllm:spec_decode_num_accepted_tokens"]
    return {
        "acceptance_rate": kept / values["vllm:spec_decode_num_draft_tokens"],
        "acceptance_length": 1 + kept / drafts,
    }


def speculate(models: Path, problems: list[Problem]) -> dict[str, float]:
    """Acceptance and accuracy, greedy: on CPU, vLLM 0.32 samples wrongly while it speculates."""
    llm = serve(
        models / "tiny-reasoning",
        speculative_config={
            "method": "draft_model",
            "model": str(models / "tiny-draft"),
            "num_speculative_tokens": SPECULATED,
        },
    )
    answers = ask(llm, problems, temperature=0.0)
    return accepted(llm) | {"accuracy": summary(answers)["accuracy"]}


def measure(models: Path, n: int) -> dict[str, Any]:
    """Everything on the model card, as one mapping."""
    asked = {tier: heldout(tier, n) for tier in TIERS}
    measured: dict[str, Any] = {"n": n}
    for name in ("tiny-reasoning", "tiny-plain"):
        llm = serve(models / name)
        answers = {tier: ask(llm, problems) for tier, problems in asked.items()}
        measured[name] = {tier: summary(sampled) for tier, sampled in answers.items()}
        if name == "tiny-reasoning":
            measured["budgets"] = {
                tier: {
                    str(budget): statistics.fmean(a.right and a.tokens <= budget for a in sampled)
                    for budget in BUDGETS[tier]
                }
                for tier, sampled in answers.items()
                if tier in BUDGETS
            }
        del llm
    measured["tiny-draft"] = speculate(models, asked["medium"][: n // 4] + asked["hard"][: n // 4])
    return measured


def measure_logic(n: int) -> dict[str, Any]:
    """The pair that is trained on puzzles: all of them, and per kind the accuracy."""
    pair, puzzles = PAIRS["tiny-logic"], logic.heldout(n)
    measured: dict[str, Any] = {"n": n}
    for role in ("reasoning", "plain"):
        llm = serve(Path(pair.path(role)), pair.max_model_len)
        answers = ask(llm, puzzles, tokens=pair.generous)
        measured[f"tiny-logic-{role}"] = summary(answers) | {
            kind: statistics.fmean(
                a.right for a, p in zip(answers, puzzles, strict=True) if p.template == kind
            )
            for kind in logic.TEMPLATES
        }
        del llm
    return measured


def logic_markdown(measured: dict[str, Any]) -> str:
    """The measured table of the puzzles."""
    kinds = list(logic.TEMPLATES)
    rows = [f"| model | all | {' | '.join(kinds)} | median tokens | truncated |"]
    rows.append("| --- |" + " --- |" * (len(kinds) + 3))
    for name, s in measured.items():
        if name != "n":
            shares = " | ".join(f"{s[key]:.1%}" for key in ("accuracy", *kinds))
            rows.append(f"| {name} | {shares} | {s['median_tokens']:.0f} | {s['truncated']:.1%} |")
    return "\n".join(rows)


def markdown(measured: dict[str, Any]) -> str:
    """The measured tables."""
    rows = ["| model | tier | accuracy | median tokens | 10 to 90 % | truncated |"]
    rows.append("| --- | --- | --- | --- | --- | --- |")
    for name in ("tiny-reasoning", "tiny-plain"):
        for tier in TIERS:
            s = measured[name][tier]
            rows.append(
                f"| {name} | {tier} | {s['accuracy']:.1%} | {s['median_tokens']:.0f} "
                f"| {s['p10_tokens']:.0f} to {s['p90_tokens']:.0f} | {s['truncated']:.1%} |"
            )
    for tier, curve in measured["budgets"].items():
        rows += ["", f"| {tier}: max_tokens | " + " | ".join(curve) + " |"]
        rows += ["| --- |" + " --- |" * len(curve)]
        rows += ["| accuracy | " + " | ".join(f"{value:.1%}" for value in curve.values()) + " |"]
    draft = measured["tiny-draft"]
    rows += [
        "",
        f"Draft: {draft['acceptance_rate']:.1%} of proposed tokens accepted, "
        f"{draft['acceptance_length']:.2f} tokens per step with {SPECULATED} proposed.",
    ]
    return "\n".join(rows)


def main() -> None:
    """Measure, print markdown, write JSON beside the model card."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--models", type=Path, default=ROOT / "pytest_rllm/models")
    options.add_argument("-n", type=int, default=400, help="problems per tier")
    options.add_argument("--only", choices=("arithmetic", "logic"), help="a part of the models")
    chosen = options.parse_args()
    file = ROOT / "pytest_rllm/models/measured.json"
    stored = json.loads(file.read_text()) if file.exists() else {}
    if chosen.only in (None, "arithmetic"):
        measured = measure(chosen.models, chosen.n)
        print(markdown(measured))
        stored = {"logic": stored.get("logic"), **measured}
    if chosen.only in (None, "logic"):
        stored["logic"] = measure_logic(chosen.n)
        print(logic_markdown(stored["logic"]))
    rounded = json.loads(json.dumps(stored), parse_float=lambda text: round(float(text), 4))
    file.write_text(json.dumps(rounded, indent=2) + "\n")


if __name__ == "__main__":
    main()
