"""A model pair of one's own, described by a TOML file: ``--rllm-model my_pair.toml``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from string import Formatter
from typing import Any

from ..checkpoints.rounded import bits_of
from ..local_data import LocalData
from .pair import GGUF, TIERS, ModelPair
from .toml_tables import PairFileError as PairFileError
from .toml_tables import Table, opened

MODEL = "a folder with a checkpoint, a model id ORG/NAME, or a .gguf file"
KEYS = {
    "name": "a name for test cases, of letters, digits, '.', '_' and '-'",
    "reasoning": MODEL,
    "plain": MODEL,
    "draft": MODEL,
    "eagle": "an EAGLE head: a folder with a checkpoint, or a model id ORG/NAME",
    "reasoning_format": "how the model marks its reasoning, such as 'deepseek-r1' or 'qwen3'",
    "served_name": "what a server that runs already calls the model",
    "size_b": "the size of the reasoning model in billions of parameters",
    "stands_for": "the size in billions of parameters whose findings the pair is measured by",
    "reasoning_opened": "true where the chat template opens the reasoning",
    "single_turn": "true where the models learned from single questions alone",
    "examples": "the number of worked examples before a question where optimisations are compared",
    "context_length": "the longest sequence in tokens",
    "context": "a table with the longest sequence in tokens of reasoning or plain",
    "kv_cache_bytes": "the size of the KV cache in bytes",
    "kv_block_tokens": "the size of a block of the KV cache in tokens",
    "budgets": "a table with short, enough, generous and fixed_length in tokens",
    "tiers": f"a table with the data of one or more of {', '.join(TIERS)}",
    "needs": "a table with gpu_memory_gib and gpus",
    "requests": "a table with further fields of requests for reasoning and for plain",
    "engines": "a table with a table per engine",
    "quantized": "a table with a checkpoint, or a table of them per role, per quantisation",
}
BUDGETS = {
    "short": "a number of tokens that cuts answers off",
    "enough": "a number of tokens that suffices for most answers",
    "generous": "a number of tokens that hardly any answer needs",
    "fixed_length": "a number of tokens that fewer than a hard answer has",
}
NEEDS = {
    "gpu_memory_gib": "the GPU memory in GiB that the pair needs, per GPU; 0 for a CPU",
    "gpus": "the number of GPUs that the pair needs",
}
REQUESTS = {
    "reasoning": "a table with fields of the JSON body of a request",
    "plain": "a table with fields of the JSON body of a request",
}
CONTEXT = dict.fromkeys(("reasoning", "plain"), "the longest sequence in tokens")
ENGINE = {
    "flags": "a list of texts, the flags that a server is started with",
    "files": "a table with a file for reasoning, plain or draft that is served instead of it",
}
QUANTIZED = dict.fromkeys(("reasoning", "plain"), "a folder with a checkpoint, or a model id")
FILES = dict.fromkeys(("reasoning", "plain", "draft"), "a .gguf file, relative to this one")
TIER = {
    "dataset": "the name of a data set, such as 'gsm8k'",
    "file": "a file .jsonl or .parquet, relative to this one",
    "question": "the column of the question",
    "answer": "the column of the answer key",
    "id": "the column of a name that every row has for itself",
    "template": "the column that is equal for questions that depend on each other",
    "kind": "'math' or 'word': how answers are graded",
    "prompt": "the text that is sent, with columns in braces, such as '{question} Be brief.'",
}
"""Keys of each table, and what is expected there."""
OURS = ("model", "messages", "stream", "max_tokens", "temperature", "top_p")
"""Fields of a request's body that the measurement sets itself, on every engine."""
SUFFIXES = (".jsonl", ".parquet")


def read_pair(path: Path) -> ModelPair:
    """The pair that a TOML file describes. Its name is the file's, unless it says another one.

    Args:
        path: of the file; folders and data files in it are relative to the file.

    Raises:
        PairFileError: it cannot be read, or says something impossible; with the line and with what
            was expected there.
    """
    top = opened(path, KEYS)
    reasoning, plain = _model(top, "reasoning"), _model(top, "plain")
    budgets = _budgets(top)
    needs = top.table("needs", NEEDS)
    requests = _requests(top)
    if reasoning == plain and requests.get("reasoning") == requests.get("plain"):
        top.fail(
            "reasoning and plain are one checkpoint and are asked alike: say in [requests.plain] "
            "how a request for an answer without reasoning differs, or name two checkpoints",
            "plain",
        )
    return ModelPair(
        name=_name(top),
        reasoning=reasoning,
        plain=plain,
        draft=_model(top, "draft") if "draft" in top else None,
        eagle=_model(top, "eagle") if "eagle" in top else None,
        # Of one checkpoint with two modes the format must know answers without reasoning.
        reasoning_format=top.text(
            "reasoning_format", "qwen3" if reasoning == plain else "deepseek-r1"
        ),
        tiers=_tiers(top),
        **budgets,
        context=_context(top, two_modes=reasoning == plain),
        kv_cache_bytes=top.count("kv_cache_bytes") if "kv_cache_bytes" in top else None,
        examples=top.count("examples") if "examples" in top else 0,
        kv_block_tokens=top.count("kv_block_tokens") if "kv_block_tokens" in top else None,
        gpu_memory_gib=needs.number("gpu_memory_gib", 0),
        gpus=needs.count("gpus", 1),
        requests=requests,
        flags=_flags(top),
        files=_files(top),
        quantized=_quantized(top),
        served_name=top.text("served_name") if "served_name" in top else None,
        size_b=_size(top, "size_b"),
        stands_for=_size(top, "stands_for"),
        single_turn=top.flag("single_turn"),
        reasoning_opened=top.flag("reasoning_opened"),
        file=path,
    )


def _size(top: Table, key: str) -> float | None:
    if key not in top:
        return None
    size = top.number(key, 0)
    return size if size > 0 else top.fail(f"{key} = {size:g}; expected {KEYS[key]}", key)


def _name(top: Table) -> str:
    name = top.text("name", top.file.stem)
    if not re.fullmatch(r"[\w.-]+", name):
        top.fail(f"the pair cannot be called {name!r}: expected name = {KEYS['name']}", "name")
    return name


def _quantized(top: Table) -> dict[str, Mapping[str, str]]:
    """Per quantisation and role a checkpoint; one alone is the reasoning model's."""
    table = top.table("quantized", None)
    found: dict[str, Mapping[str, str]] = {}
    for name in table:
        if bits_of(name):
            table.fail(f"{name!r} is made from the pair's own checkpoints: leave it out", name)
        if isinstance(table.content[name], str):
            found[name] = {"reasoning": _model(table, name)}
            continue
        roles = table.table(name, QUANTIZED)
        found[name] = {role: _model(roles, role) for role in roles}
    return found


def _model(top: Table, role: str) -> str:
    """The absolute path of a folder or file, or a model id."""
    said = top.text(role)
    if said.endswith(GGUF):
        return _model_file(top, role)
    folder = Path(os.path.abspath(top.file.parent / Path(said).expanduser()))
    if said.startswith((".", "/", "~")) or folder.is_dir():
        if not (folder / "config.json").is_file():
            lacks = "holds no config.json" if folder.is_dir() else "does not exist"
            top.fail(f"{role}: the folder {folder} {lacks}; expected {MODEL}", role)
        return str(folder)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", said):
        top.fail(
            f"{role}: there is no folder {folder}, and {said!r} is no model id; expected {MODEL}",
            role,
        )
    return said


def _budgets(top: Table) -> dict[str, Any]:
    """The budgets and the context length, which grow in that order."""
    table = top.table("budgets", BUDGETS, needed=True)
    found = {key: table.count(key) for key in BUDGETS}
    context = top.count("context_length")
    for less, more in (("short", "enough"), ("enough", "generous")):
        if found[less] >= found[more]:
            table.fail(
                f"{more} = {found[more]} is not above {less} = {found[less]}; expected growing "
                "budgets: short < enough < generous",
                more,
            )
    for key in ("generous", "fixed_length"):
        if found[key] >= context:
            table.fail(
                f"{key} = {found[key]} leaves no room for the question in context_length = "
                f"{context}; expected fewer tokens",
                key,
            )
    return found | {"max_model_len": context}


def _context(top: Table, *, two_modes: bool) -> dict[str, int]:
    """Context lengths of roles that have one of their own."""
    table = top.table("context", CONTEXT)
    if two_modes and list(table):
        top.fail(
            "one checkpoint in both roles is one server: say context_length, without [context]",
            "context",
        )
    return {role: table.count(role) for role in table}


def _requests(top: Table) -> dict[str, Mapping[str, Any]]:
    table = top.table("requests", REQUESTS)
    found = {}
    for role in table:
        fields = table.table(role, None)
        for name in fields:
            if name in OURS:
                fields.fail(f"{name!r} is set by the measurement itself: leave it out", name)
            try:
                json.dumps(fields.content[name], allow_nan=False)
            except (TypeError, ValueError) as error:
                fields.fail(f"{name!r} cannot be sent as JSON ({error})", name)
        found[role] = fields.content
    return found


def _flags(top: Table) -> dict[str, tuple[str, ...]]:
    engines = top.table("engines", None)
    return {name: engines.table(name, ENGINE).texts("flags") for name in engines}


def _files(top: Table) -> dict[str, Mapping[str, str]]:
    engines = top.table("engines", None)
    found: dict[str, Mapping[str, str]] = {}
    for name in engines:
        files = engines.table(name, ENGINE).table("files", FILES)
        if list(files):
            found[name] = {role: _model_file(files, role) for role in files}
    return found


def _model_file(table: Table, role: str) -> str:
    """The absolute path of a file that holds a model."""
    file = Path(os.path.abspath(table.file.parent / Path(table.text(role)).expanduser()))
    if not file.is_file() or file.suffix != GGUF:
        lacks = f"is no {GGUF} file" if file.is_file() else "does not exist"
        table.fail(f"{role}: the file {file} {lacks}", role)
    return str(file)


def _tiers(top: Table) -> dict[str, str | LocalData]:
    tiers = top.table("tiers", dict.fromkeys(TIERS, "a table with its data"), needed=True)
    if not list(tiers):
        top.fail(f"[tiers] is empty; expected {KEYS['tiers']}", "tiers")
    return {name: _data(tiers.table(name, TIER), name) for name in TIERS if name in tiers}


def _data(tier: Table, name: str) -> str | LocalData:
    """The data of a tier: a registered name or a file."""
    if ("dataset" in tier) == ("file" in tier):
        tier.fail(f"the tier {name!r} needs either dataset = ... or file = ...")
    if "dataset" in tier:
        for key in tier:
            if key != "dataset":
                tier.fail(f"{key!r} is for a file, and a data set has no columns to name", key)
        return tier.text("dataset")
    if name == "code":
        tier.fail(
            "programs need their tests: expected dataset = 'humaneval'; questions of your own "
            "stand in humaneval.jsonl, in its columns, in the folder of --rllm-data",
            "file",
        )
    said = tier.text("file")
    path = Path(os.path.abspath(tier.file.parent / Path(said).expanduser()))
    if not path.is_file():
        tier.fail(f"there is no file {path}; expected {TIER['file']}", "file")
    if path.suffix not in SUFFIXES:
        tier.fail(f"{path.name} is neither .jsonl nor .parquet; expected {TIER['file']}", "file")
    kind = tier.text("kind", "math" if name in ("easy", "medium", "hard") else "word")
    if kind not in ("math", "word"):
        tier.fail(f"kind = {kind!r}; expected {TIER['kind']}", "kind")
    prompt = tier.text("prompt") if "prompt" in tier else None
    wants = {"question"} if prompt is None else _columns(tier, prompt)
    optional = {key: tier.text(key) if key in tier else None for key in ("id", "template")}
    columns = ("answer", "question", "id", "template", "prompt")
    return LocalData(
        path=path,
        tier=name,
        answer=tier.text("answer"),
        question=tier.text("question") if "question" in wants | set(tier) else None,
        **optional,
        kind="math" if kind == "math" else "word",
        prompt=prompt,
        said={"path": tier.place("file")} | {key: tier.place(key) for key in columns},
    )


def _columns(tier: Table, prompt: str) -> set[str]:
    """Names in the braces of a prompt."""
    try:
        parts = list(Formatter().parse(prompt))
    except ValueError as error:
        tier.fail(f"prompt: {error}; expected {{{{ and }}}} for braces that are sent", "prompt")
    names = set()
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if not name or form or conversion:
            tier.fail(
                "prompt: expected the name of a column between braces, without ':' and '!', and "
                "{{ and }} for braces that are sent",
                "prompt",
            )
        names.add(name)
    if not names:
        tier.fail(f"prompt names no column in braces; expected {TIER['prompt']}", "prompt")
    return names
