"""A pair of your own, as a worked example: `python training/own_pair.py FOLDER` (a few minutes).

It trains one small checkpoint with two modes and writes all that a pair needs into FOLDER:

- `checkpoint/`: a Llama with a tokenizer of whole words. Its chat template knows `enable_thinking`:
  with thinking it follows a ball under six cups from swap to swap in <think> ... </think>, without
  it says at once where the ball ends.
- `easy.jsonl`, `medium.jsonl`, `hard.jsonl`, `facts.jsonl`: questions that training did not see
  (facts are asked as they were learned), in columns of their own names.
- `pair.toml`: the description. One checkpoint is both roles, told apart by a field of the request.

Then `pytest tests_findings --rllm-model FOLDER/pair.toml` measures it. To measure a model that you
have, only the description is needed: copy `pair.toml`, and put your model and your data into it.
"""

import argparse
import json
import random
import re
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

CUPS = 6
LABELS = "abcdefghijklmnop"
STEPS = {"easy": (1, 3), "medium": (5, 8), "hard": (10, 16)}
"""Fewest and most swaps of a question."""
QUESTIONS = 600
"""Number of questions per tier; the findings ask up to 480 of one."""
FEATURES = {
    "colour": ["red", "blue", "green", "white", "black", "grey", "pink", "brown"],
    "home": ["Tarsk", "Oblin", "Quern", "Mirda", "Velt", "Norrow", "Sappir", "Ukkel"],
    "craft": ["baker", "potter", "weaver", "mason", "tailor", "miller", "cooper", "smith"],
}
PEOPLE = 80
"""Number of invented people, of whom every feature is one fact."""

PIECE = r"\\boxed\{|<\|?/?\w+\|?>| ?\w+|\n|[^\w\s]| "
"""A token: a word or number with the space before it, or a mark."""
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>", "<|unknown|>")
PAD, _, END, _ = range(len(SPECIAL))
CONTEXT = 512
TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{- '<|im_start|>assistant\\n' -}}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{- '<think>\\n\\n</think>\\n\\n' -}}"
    "{%- endif -%}"
    "{%- endif -%}"
)
"""As that of Qwen3: the model opens its thinking itself, and the template closes it where none is
wanted."""

PAIR = f"""\
# One checkpoint with two modes: it is the reasoning model and the plain one.
reasoning = "checkpoint"
plain = "checkpoint"
context_length = {CONTEXT}
kv_cache_bytes = 8_388_608   # 2048 bytes per token: small enough to see it fill and empty
kv_block_tokens = 32
single_turn = true           # it learned from single questions alone

[requests]
reasoning = {{ chat_template_kwargs = {{ enable_thinking = true }} }}
plain = {{ chat_template_kwargs = {{ enable_thinking = false }} }}

[budgets]                    # in tokens
short = 24                   # cuts off the thinking about a question of medium difficulty
enough = 128
generous = 256
fixed_length = 48

[tiers.easy]
file = "easy.jsonl"
question = "game"
answer = "cup"
id = "nr"
prompt = "{{question}}"

[tiers.medium]
file = "medium.jsonl"
question = "game"
answer = "cup"
id = "nr"
prompt = "{{question}}"

[tiers.hard]
file = "hard.jsonl"
question = "game"
answer = "cup"
id = "nr"
prompt = "{{question}}"

[tiers.knowledge]
file = "facts.jsonl"
answer = "gold"
prompt = "What is the {{feature}} of {{who}}?"

[engines.vllm]
flags = ["--dtype", "float32"]
"""

Example = tuple[str, str]
"""What is read, and what is learned."""


def chat(question: str, *, thinks: bool) -> str:
    """The prompt as the chat template renders one user message."""
    opened = "" if thinks else "<think>\n\n</think>\n\n"
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{opened}"


def game(rng: random.Random, steps: int) -> tuple[str, str, str]:
    """A question, the thinking that solves it, and the cup with the ball at the end."""
    ball = rng.randint(1, CUPS)
    swaps, lines = [], []
    start = ball
    for label in LABELS[:steps]:
        one, other = rng.sample(range(1, CUPS + 1), 2)
        if rng.random() < 0.4 and ball not in (one, other):  # else it would seldom move
            one = ball
        swaps.append(f" {label} swaps {one} {other}")
        ball = {one: other, other: one}.get(ball, ball)
        lines.append(f" {label} {one} {other} {ball}\n")
    question = f"The ball is under cup {start}.{';'.join(swaps)}. Where is it?"
    return question, "".join(lines), str(ball)


def is_heldout(question: str) -> bool:
    """Whether a question is asked and not learned, which depends only on its text."""
    return zlib.crc32(question.encode()) % 4 == 0


def facts() -> list[tuple[str, str, str]]:
    """All facts, always the same: who, feature and its value."""
    rng = random.Random("facts")
    syllables = [first + second for first in "bdfgklmnprst" for second in "aeiou"]
    names: dict[str, None] = {}
    while len(names) < PEOPLE:
        names["".join(rng.sample(syllables, 2)).capitalize()] = None
    return [
        (name, feature, rng.choice(values))
        for name in names
        for feature, values in FEATURES.items()
    ]


def fact_question(who: str, feature: str) -> str:
    """As `pair.toml` asks it."""
    return f"What is the {feature} of {who}?"


def reply(answer: str) -> str:
    """The visible answer, and the end of the turn."""
    return f"It is \\boxed{{{answer}}}.<|im_end|>"


def examples(seed: int, longest: Callable[[], int]) -> Iterator[Example]:
    """An endless stream of what is learned; games have at most `longest()` swaps."""
    rng, known = random.Random(seed), facts()
    while True:
        thinks = rng.random() < 0.7
        if rng.random() < 0.2:
            who, feature, value = rng.choice(known)
            question, thought, answer = fact_question(who, feature), f" {value}\n", value
        else:
            question, thought, answer = game(rng, rng.randint(1, longest()))
            if is_heldout(question):
                continue
        thinking = f"<think>\n{thought}</think>\n\n" if thinks else ""
        yield chat(question, thinks=thinks), thinking + reply(answer)


def make_tokenizer() -> Tokenizer:
    """Whole words and single marks, as they occur in the texts; anything else is unknown."""
    stream = examples(0, lambda: len(LABELS))
    texts = ["".join(next(stream)) for _ in range(5000)]
    texts += [fact_question(who, feature) + reply(value) for who, feature, value in facts()]
    words = {piece for text in texts for piece in re.findall(PIECE, text)}
    vocabulary = [*SPECIAL, *sorted(words - set(SPECIAL))]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token=SPECIAL[3])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIAL))
    # not special: a parser of reasoning has to see them in the decoded text
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in ("<think>", "</think>")])
    return tokenizer


def make_model(vocabulary: int) -> LlamaForCausalLM:
    """About a million weights."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=-(-vocabulary // 64) * 64,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=END,
            pad_token_id=PAD,
        )
    )


def batches(
    stream: Iterator[Example], tokenizer: Tokenizer, size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs and labels, each (rows, length), of about `size` tokens; rows are of like length."""
    while True:
        rows = []
        for _ in range(512):
            read, learned = (
                tokenizer.encode(text, add_special_tokens=False).ids for text in next(stream)
            )
            rows.append((read + learned, [-100] * len(read) + learned))
        rows.sort(key=lambda row: len(row[0]))
        cut = []
        while rows:
            length = len(rows[-1][0])
            taken = [rows.pop() for _ in range(min(len(rows), max(1, size // length)))]
            ids = torch.full((len(taken), length), PAD)
            labels = torch.full((len(taken), length), -100)
            for i, (row, wanted) in enumerate(taken):
                ids[i, : len(row)] = torch.tensor(row)
                labels[i, : len(row)] = torch.tensor(wanted)
            cut.append((ids, labels))
        random.Random(len(cut)).shuffle(cut)
        yield from cut


def train(
    model: LlamaForCausalLM, tokenizer: Tokenizer, minutes: float, pause: Path | None
) -> None:
    """Train for that long, on longer and longer games: Muon on matrices, AdamW on the rest.

    Args:
        model: is changed.
        tokenizer: of its texts.
        minutes: of computing.
        pause: while this file exists, nothing is computed.
    """
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    optimisers = [
        torch.optim.Muon(matrices, lr=2e-3, adjust_lr_fn="match_rms_adamw", weight_decay=0.0),
        torch.optim.AdamW(others, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    spent, step, seen, losses = 0.0, 0, 0, list[float]()

    def longest() -> int:
        return min(len(LABELS), 4 + int(2.5 * len(LABELS) * spent / (60 * minutes)))

    model.train()
    for ids, labels in batches(examples(1, longest), tokenizer, 4096):
        while pause is not None and pause.exists():
            time.sleep(2)
        begun = time.perf_counter()
        progress = spent / (60 * minutes)
        if progress >= 1:
            break
        rate = 2e-3 * min(1, (step + 1) / 50, (1 - progress) / 0.4 + 0.02)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        wanted = labels[:, 1:]
        logits = model.lm_head(hidden[wanted != -100])
        loss = torch.nn.functional.cross_entropy(logits, wanted[wanted != -100])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        spent += time.perf_counter() - begun
        step, seen = step + 1, seen + ids.numel()
        losses.append(loss.item())
        if step % 50 == 0:
            print(
                f"{progress:4.0%} step {step} loss {sum(losses[-50:]) / 50:.4f} "
                f"{seen / spent:.0f} tokens/s",
                flush=True,
            )


def save(folder: Path, model: LlamaForCausalLM, tokenizer: Tokenizer) -> None:
    """Write the checkpoint with its tokenizer, chat template and sampling defaults."""
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.6, top_p=0.95, eos_token_id=END, pad_token_id=PAD
    )
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[2],
        unk_token=SPECIAL[3],
        extra_special_tokens=[SPECIAL[1]],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    ).save_pretrained(folder)


def write_questions(folder: Path) -> None:
    """One JSONL file per tier, and the description of the pair."""
    for tier, (fewest, most) in STEPS.items():
        rng = random.Random(tier)
        found: dict[str, str] = {}
        while len(found) < QUESTIONS:
            question, _, cup = game(rng, rng.randint(fewest, most))
            if is_heldout(question):
                found[question] = cup
        rows = [{"nr": i, "game": q, "cup": int(a)} for i, (q, a) in enumerate(found.items())]
        _write(folder / f"{tier}.jsonl", rows)
    known = facts()
    random.Random(0).shuffle(known)
    _write(folder / "facts.jsonl", [{"who": w, "feature": f, "gold": v} for w, f, v in known])
    (folder / "pair.toml").write_text(PAIR, encoding="utf-8")


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    """Train, then write everything."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("folder", type=Path, help="where everything is written")
    options.add_argument("--minutes", type=float, default=6.0, help="of training")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--pause", type=Path, help="compute nothing while this file exists")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(1)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    write_questions(chosen.folder)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer.get_vocab_size())
    print(f"{model.num_parameters():,} weights, {tokenizer.get_vocab_size()} words", flush=True)
    train(model, tokenizer, chosen.minutes, chosen.pause)
    save(chosen.folder / "checkpoint", model, tokenizer)
    print(f"written: {chosen.folder / 'pair.toml'}")


if __name__ == "__main__":
    main()
