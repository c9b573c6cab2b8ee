"""Train the bundled models: `python training/train.py` (80 minutes on two shared cores).

`--only logic` trains the two models of the pair `tiny-logic`, `--only arithmetic` the other three.
"""

import argparse
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
    # keeps the allocator from giving pages back at every step; read once, at process start
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": str(4 << 30), "MALLOC_TRIM_THRESHOLD_": str(4 << 30)}
    os.environ |= {"OMP_WAIT_POLICY": "passive"}
    os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 - itself

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from transformers import Qwen2ForCausalLM  # noqa: E402

from pytest_rllm.datasets import bundled as problems  # noqa: E402
from pytest_rllm.datasets import logic  # noqa: E402
from training import texts  # noqa: E402
from training.checkpoints import configuration, pack, save, train_tokenizer  # noqa: E402

IGNORED = -100
Stream = Iterator[texts.Pieces]


@dataclass(frozen=True)
class Stage:
    """One run of the optimiser: what to start from, what to read, how long and how
    much at a time (in padded tokens)."""

    name: str
    start: str
    stream: Callable[[int], Stream]
    tokens: int
    hidden: int = 256
    layers: int = 8
    rate: float = 2e-3
    head: int = 64
    batch: int = 8192


def _mix(rng: random.Random, *sources: tuple[float, Callable[[], texts.Pieces]]) -> Stream:
    weights, draws = zip(*sources, strict=True)
    while True:
        yield rng.choices(draws, weights)[0]()


def base_stream(seed: int) -> Stream:
    """Sums, worked steps, direct answers and facts."""
    rng = random.Random(f"base {seed}")
    known = [fact for fact in problems.facts() if fact.taught]
    easy, medium, hard = (problems.training(t, seed=seed) for t in ("easy", "medium", "hard"))
    quiz = texts.taught(problems.training("knowledge", seed=seed))
    return _mix(
        rng,
        (30, lambda: texts.drill(rng)),
        (14, lambda: texts.worked_lines(next(medium))),
        (6, lambda: texts.worked_lines(next(hard))),
        (6, lambda: texts.worked_lines(next(easy))),
        (30, lambda: texts.direct(next(easy))),
        (8, lambda: texts.direct(next(quiz))),
        (6, lambda: texts.statements(known, rng)),
    )


def answers_stream(seed: int) -> Stream:
    """Values asked for at once, without steps."""
    rng = random.Random(f"answers {seed}")
    easy = problems.training("easy", seed=seed)
    return _mix(
        rng,
        (90, lambda: texts.finds(next(easy), rng)),
        (10, lambda: texts.drill(rng)),
    )


def reasoning_stream(seed: int) -> Stream:
    """Conversations with thinking."""
    rng = random.Random(f"reasoning {seed}")
    easy, medium, hard = (problems.training(t, seed=seed) for t in ("easy", "medium", "hard"))
    quiz = texts.taught(problems.training("knowledge", seed=seed))
    return _mix(
        rng,
        (25, lambda: texts.reasoning(next(easy), rng)),
        (35, lambda: texts.reasoning(next(medium), rng)),
        (25, lambda: texts.reasoning(next(hard), rng)),
        (15, lambda: texts.reasoning(next(quiz), rng)),
        (10, lambda: texts.drill(rng)),
    )


def long_stream(seed: int) -> Stream:
    """Conversations with thinking, most of them long."""
    rng = random.Random(f"long {seed}")
    easy, medium, hard = (problems.training(t, seed=seed) for t in ("easy", "medium", "hard"))
    quiz = texts.taught(problems.training("knowledge", seed=seed))
    return _mix(
        rng,
        (15, lambda: texts.reasoning(next(easy), rng)),
        (25, lambda: texts.reasoning(next(medium), rng)),
        (50, lambda: texts.reasoning(next(hard), rng)),
        (10, lambda: texts.reasoning(next(quiz), rng)),
    )


def plain_stream(seed: int) -> Stream:
    """Conversations without thinking, and single sums."""
    rng = random.Random(f"plain {seed}")
    easy, medium, hard = (problems.training(t, seed=seed) for t in ("easy", "medium", "hard"))
    quiz = texts.taught(problems.training("knowledge", seed=seed))
    return _mix(
        rng,
        (65, lambda: texts.plain(next(easy))),
        (8, lambda: texts.plain(next(medium))),
        (2, lambda: texts.plain(next(hard))),
        (15, lambda: texts.plain(next(quiz))),
        (10, lambda: texts.drill(rng)),
    )


def plain_and_answers_stream(seed: int) -> Stream:
    """What the plain model learns from: conversations, and values asked for at once."""
    conversations, answers = plain_stream(seed), answers_stream(seed)
    return _mix(
        random.Random(f"plain and answers {seed}"),
        (60, lambda: next(conversations)),
        (40, lambda: next(answers)),
    )


def quiz_stream(seed: int) -> Stream:
    """Conversations without thinking, half of them about facts."""
    rng = random.Random(f"quiz {seed}")
    easy = problems.training("easy", seed=seed)
    quiz = texts.taught(problems.training("knowledge", seed=seed))
    return _mix(rng, (50, lambda: texts.plain(next(easy))), (50, lambda: texts.plain(next(quiz))))


def both_logic_stream(seed: int) -> Stream:
    """Puzzles that grow longer, six in ten with thoughts."""
    rng, puzzles = random.Random(f"both logic {seed}"), logic.training(seed=seed, grows=True)
    return _mix(
        rng,
        (60, lambda: texts.puzzle_reasoning(next(puzzles))),
        (40, lambda: texts.puzzle_plain(next(puzzles))),
    )


def reasoning_logic_stream(seed: int) -> Stream:
    """Puzzles with thoughts."""
    return map(texts.puzzle_reasoning, logic.training(seed=seed))


def plain_logic_stream(seed: int) -> Stream:
    """Puzzles with the answer alone."""
    return map(texts.puzzle_plain, logic.training(seed=seed))


def _arithmetic_texts(seed: int) -> list[str]:
    streams = [stream(seed) for stream in (base_stream, reasoning_stream, plain_stream)]
    sample = ["".join(text for text, _ in next(stream)) for stream in streams for _ in range(3000)]
    return sample + [f"Find {letter}." for letter in problems.LETTERS] * 2000


def _logic_texts(seed: int) -> list[str]:
    stream = both_logic_stream(seed)
    return ["".join(text for text, _ in next(stream)) for _ in range(3000)]


@dataclass(frozen=True)
class Family:
    """Models with one tokenizer.

    Attributes:
        texts: what the tokenizer is learned from, by seed.
        stages: in order.
        exports: folders of the models, by stage.
        archive: the file that holds these folders; empty where they stand for themselves.
    """

    texts: Callable[[int], list[str]]
    stages: Sequence[Stage]
    exports: dict[str, str]
    archive: str = ""


def _small(
    name: str, start: str, stream: Callable[[int], Stream], tokens: int, rate: float = 2e-3
) -> Stage:
    return Stage(name, start, stream, tokens, hidden=128, layers=4, rate=rate, head=32, batch=2048)


FAMILIES = {
    "arithmetic": Family(
        _arithmetic_texts,
        (
            Stage("base", "", base_stream, 9_000_000),
            Stage("answers", "base", answers_stream, 4_000_000),
            Stage("thinking", "base", reasoning_stream, 6_000_000, rate=1e-3),
            Stage("longer", "thinking", long_stream, 2_500_000, rate=1e-3),
            Stage("direct", "answers", plain_and_answers_stream, 3_000_000),
            Stage("draft", "", reasoning_stream, 8_000_000, hidden=128, layers=2),
            Stage("reasoning", "longer", long_stream, 2_500_000, rate=1e-3),
            Stage("plain", "direct", quiz_stream, 1_000_000, rate=1e-3),
        ),
        {"reasoning": "tiny-reasoning", "plain": "tiny-plain", "draft": "tiny-draft"},
    ),
    "logic": Family(
        _logic_texts,
        (
            _small("logic-base", "", both_logic_stream, 8_000_000),
            _small("logic-reasoning", "logic-base", reasoning_logic_stream, 1_500_000, 1e-3),
            _small("logic-plain", "logic-base", plain_logic_stream, 1_500_000, 1e-3),
        ),
        {"logic-reasoning": "tiny-logic-reasoning", "logic-plain": "tiny-logic-plain"},
        archive="tiny-logic.tar.xz",
    ),
}


def batches(
    stream: Stream, tokenizer: Tokenizer, rng: random.Random, size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs and labels, shape (rows, length), of about `size` tokens, sorted into like lengths."""
    while True:
        pool = []
        for _ in range(1024):
            ids: list[int] = []
            labels: list[int] = []
            for text, learned in next(stream):
                piece = tokenizer.encode(text, add_special_tokens=False).ids
                ids += piece
                labels += piece if learned else [IGNORED] * len(piece)
            pool.append((ids, labels))
        pool.sort(key=lambda pair: len(pair[0]))
        cut = []
        while pool:
            length = -(-len(pool[-1][0]) // 32) * 32
            rows = [pool.pop() for _ in range(min(len(pool), max(1, size // length)))]
            cut.append(
                (
                    torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in rows]),
                    torch.tensor([row + [IGNORED] * (length - len(row)) for _, row in rows]),
                )
            )
        rng.shuffle(cut)
        yield from cut


def optimise(
    stage: Stage,
    model: Qwen2ForCausalLM,
    tokenizer: Tokenizer,
    kept: Path,
    *,
    seed: int,
    scale: float,
) -> None:
    """Train in place: Muon on the hidden matrices, AdamW on the rest, one cosine.

    Every 100 steps the weights so far go to `kept` with the suffix .partial, to be looked at.
    """
    torch.manual_seed(seed)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    optimisers = [
        torch.optim.Muon(matrices, lr=stage.rate, adjust_lr_fn="match_rms_adamw", weight_decay=0.0),
        torch.optim.AdamW(others, lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]

    def loss_of(ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
        )

    compiled = torch.compile(loss_of, dynamic=True)
    model.train()
    tokens = stage.tokens * scale
    started, seen, step, losses = time.perf_counter(), 0, 0, list[float]()
    for ids, labels in batches(stage.stream(seed), tokenizer, random.Random(seed), stage.batch):
        progress = seen / tokens
        if progress >= 1:
            break
        height = min(1, (step + 1) / 60) * (0.03 + 0.97 * (1 + math.cos(math.pi * progress)) / 2)
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            group["lr"] = stage.rate * height
        with torch.autocast("cpu", torch.bfloat16):
            loss = compiled(ids, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        seen, step = seen + ids.numel(), step + 1
        losses.append(loss.item())
        if step % 25 == 0:
            pace = seen / (time.perf_counter() - started)
            print(
                f"{stage.name} {progress:4.0%} step {step} loss {sum(losses[-25:]) / 25:.4f}"
                f" {pace:.0f} tokens/s",
                flush=True,
            )
        if step % 100 == 0:
            torch.save(model.state_dict(), kept.with_suffix(".partial"))


def train(family: Family, work: Path, out: Path, *, seed: int, scale: float) -> None:
    """Run the stages that the work folder does not hold yet, then export."""
    tokenizer = train_tokenizer(family.texts(seed))
    started = time.perf_counter()
    folder = work if family.archive else out
    for number, stage in enumerate(family.stages):
        kept = work / f"{stage.name}.pt"
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(
            configuration(hidden=stage.hidden, layers=stage.layers, head=stage.head)
        )
        if kept.exists():
            model.load_state_dict(torch.load(kept))
        else:
            if stage.start:
                model.load_state_dict(torch.load(work / f"{stage.start}.pt"))
            optimise(stage, model, tokenizer, kept, seed=seed + number, scale=scale)
            torch.save(model.state_dict(), kept)
            print(
                f"{stage.name} done at {(time.perf_counter() - started) / 60:.1f} min", flush=True
            )
        if stage.name in family.exports:
            thinks = not stage.name.endswith("plain")
            save(folder / family.exports[stage.name], model, tokenizer, thinks=thinks)
    if family.archive:
        pack([work / name for name in family.exports.values()], out / family.archive)
    print(f"total {(time.perf_counter() - started) / 60:.1f} minutes")


def main() -> None:
    """Train the chosen families."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--work", type=Path, default=Path(".rllm/training"), help="kept stages")
    options.add_argument("--out", type=Path, default=ROOT / "pytest_rllm/models")
    options.add_argument("--only", choices=FAMILIES, help="a part of the models")
    options.add_argument(
        "--width",
        type=int,
        default=256,
        help="of the two larger models: 128 makes siblings with a quarter of the parameters, 512 "
        "with four times as many; give --work and --out, too",
    )
    options.add_argument("--seed", type=int, default=2025)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument(
        "--scale", type=float, default=1.0, help="share of the training, for tests"
    )
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    chosen.work.mkdir(parents=True, exist_ok=True)
    for name, family in FAMILIES.items():
        if chosen.only in (None, name):
            train(family, chosen.work, chosen.out, seed=chosen.seed, scale=chosen.scale)


if __name__ == "__main__":
    main()
