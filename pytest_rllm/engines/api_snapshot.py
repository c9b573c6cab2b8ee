"""The API contract of an engine, as a running server shows it: the names and defaults that findings
rely on. It is stored per version and compared by ``api_diff``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Self

from ..datasets.prompts import Prompt
from ..experiment.workloads import Sampling
from ..records.files import write_whole
from ..records.sse import DONE, events, parse, read_event
from ..telemetry.prometheus import families
from .base import Endpoint, EngineError
from .http import NO_ANSWER, ask
from .server import Server

SCHEMA = 1
NAMES = ("metrics", "delta_fields", "usage_fields")
CONVERSATION = (
    {"role": "user", "content": "Contract: say 1."},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "Contract: now work out 1 + 1, step by step."},
)
"""Asked by no data set, so it leaves no prefix in a cache that a question could hit. Without a
system message: some chat templates refuse one."""
TOKENS = 24
NOT_TOLD = "not told"
OTHERS = ("python_", "process_", "http_")
"""Families on the page that come from the libraries that serve it, not from the engine."""


class SnapshotError(ValueError):
    """A stored contract cannot be used; the message says where it is broken and what to do."""


@dataclass(frozen=True)
class ApiSnapshot:
    """What one version of an engine promises, as observed.

    Attributes:
        engine: its name here.
        distribution: the package that is installed.
        version: of the distribution.
        served: the pair of models and how it was served, ``"tiny: reasoning"``. Speculation adds
            metrics, another model has another template: contracts of one serving are compared.
        metrics: families on the telemetry page, with the names of their labels and their type,
            ``"x:kv_use{engine,model_name} gauge"``; those of one family may be spread over several
            lines.
        delta_fields: keys of a streamed chunk, its choice and its delta, ``"delta.reasoning"``.
        usage_fields: keys of its usage, ``"completion_tokens_details.reasoning_tokens"``.
        sampling: what the engine takes for parameters that a request leaves out; empty when it
            does not tell.
        template: hash of the token ids of ``CONVERSATION`` after the chat template, and their
            number; the number alone when the engine tells no ids.
    """

    engine: str
    distribution: str
    version: str
    served: str
    metrics: tuple[str, ...]
    delta_fields: tuple[str, ...]
    usage_fields: tuple[str, ...]
    sampling: Mapping[str, Any] = field(hash=False)
    template: str

    @property
    def name(self) -> str:
        return f"{self.distribution} {self.version}"

    def to_json(self) -> dict[str, Any]:
        """Plain values in the order in which they are stored: schema first, names sorted."""
        said = asdict(self) | {"sampling": dict(sorted(self.sampling.items()))}
        return {"schema": SCHEMA} | {
            key: sorted(value) if key in NAMES else value for key, value in said.items()
        }

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """The contract that :meth:`to_json` told.

        Raises:
            SnapshotError: of a newer schema.
            ValueError, KeyError, TypeError: not a contract.
        """
        values = dict(content)
        schema = values.pop("schema")
        if schema > SCHEMA:
            raise SnapshotError(
                f"schema {schema}, this version reads up to {SCHEMA}: update pytest-rllm"
            )
        for key, value in values.items():
            if key in NAMES:
                if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
                    raise ValueError(f"{key} is no list of names")
                values[key] = tuple(value)
            elif not isinstance(value, dict if key == "sampling" else str):
                raise ValueError(f"{key} is a {type(value).__name__}")
        return cls(**values)


def observe(server: Server) -> ApiSnapshot:
    """Ask a running server for its contract: one short request, and its telemetry page.

    Raises:
        EngineError: it did not answer as it must.
    """
    engine = server.engine
    prompt = Prompt("contract", "", "", "easy", "word", "contract")
    body = server.body(
        prompt, Sampling(TOKENS, temperature=0, fixed_length=engine.capabilities.fixed_length)
    )
    body["messages"] = list(CONVERSATION)
    body |= engine.token_ids
    try:
        chunks = _chunks(ask(f"{server.url}/v1/chat/completions", body))
        page = ask(server.url + engine.metrics_path).decode() if engine.metrics_path else ""
        context = server.pair.context_of(server.serving.model)
        sampling = engine.sampling_defaults(server.url, context)
    except (*NO_ANSWER, LookupError, ValueError, TypeError, AttributeError) as error:
        raise EngineError(
            f"the contract of {engine.name} {engine.version()} cannot be observed: "
            f"{type(error).__name__}: {error}\n{server.last_words()}"
        ) from error
    return ApiSnapshot(
        engine=engine.name,
        distribution=engine.distribution,
        version=engine.version(),
        served=f"{server.pair.name}: {server.serving}",
        metrics=tuple(_families(page)),
        delta_fields=tuple(sorted({name for chunk in chunks for name in _fields(chunk)})),
        usage_fields=tuple(_leaves(chunks)),
        sampling=sampling or {},
        # A mock has no chat template, and its numbers of tokens are no model's.
        template=NOT_TOLD if engine.capabilities.is_mock else _template(engine, chunks),
    )


def _chunks(response: bytes) -> list[dict[str, Any]]:
    """The events of a response, read as those of a run are.

    Raises:
        ValueError: it holds no choices; the message says what it holds.
    """
    told = takewhile(lambda event: event.data.strip() != DONE, events([(0.0, response)]))
    chunks = [read_event(event.data) for event in told if not event.name]
    if not any(chunk.get("choices") for chunk in chunks):
        cause = parse([(0.0, response)]).error
        raise ValueError(f"no choices were streamed ({cause}), but {response[:300]!r}")
    return chunks


def _families(page: str) -> list[str]:
    """Families of a page with the names of their labels, without those of ``OTHERS``.

    An ``_info`` family says all it says in labels, dozens of them: each has its own line.
    """
    found = []
    for family in families(page):
        if family.name.startswith(OTHERS):
            continue
        labels = sorted(family.labels)
        said = labels if family.name.endswith("_info") else [",".join(labels)]
        found += [f"{family.name}{{{text}}} {family.kind}" for text in said]
    return sorted(found)


def _fields(chunk: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"chunk.{key}" for key in chunk)
    for choice in chunk.get("choices") or ():
        yield from (f"choice.{key}" for key in choice)
        yield from (f"delta.{key}" for key in choice.get("delta") or ())


def _leaves(chunks: Iterable[Mapping[str, Any]]) -> list[str]:
    """Dotted paths in the usages; what is null in one chunk and filled in another is filled."""

    def paths(value: Mapping[str, Any], within: str) -> Iterator[str]:
        for key, inner in value.items():
            if isinstance(inner, dict) and inner:
                yield from paths(inner, f"{within}{key}.")
            else:
                yield within + key

    found = {path for chunk in chunks for path in paths(chunk.get("usage") or {}, "")}
    return sorted(p for p in found if not any(other.startswith(f"{p}.") for other in found))


def _template(engine: Endpoint, chunks: Sequence[Mapping[str, Any]]) -> str:
    ids = next(filter(None, map(engine.ids_of_prompt, chunks)), None)
    if ids is not None:
        digest = hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:12]
        return f"{digest} of {len(ids)} tokens"
    counts = [(c.get("usage") or {}).get("prompt_tokens") for c in chunks]
    count = next((n for n in counts if n), None)
    return NOT_TOLD if count is None else f"{count} tokens, ids {NOT_TOLD}"


# ---- stored


def path_in(folder: Path, contract: ApiSnapshot) -> Path:
    """Where a contract is stored: ``<distribution>-<version>.json``."""
    return folder / (
        re.sub(r"[^\w.+-]", "_", f"{contract.distribution}-{contract.version}") + ".json"
    )


def stored(folder: Path) -> list[ApiSnapshot]:
    """Every contract of a folder, in the order of the files' names; none without the folder.

    Raises:
        SnapshotError: a broken one, of a newer schema, or under another one's name.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        contract = read(path)
        if path.name != path_in(folder, contract).name:
            raise SnapshotError(f"{path}: holds the contract of {contract.name}")
        found.append(contract)
    return found


def read(path: Path) -> ApiSnapshot:
    """Read one contract.

    Raises:
        SnapshotError: not there, broken, or of a newer schema.
    """
    back = "fix the file, or restore it with `git checkout`"
    try:
        return ApiSnapshot.from_json(json.loads(path.read_text(encoding="utf-8")))
    except SnapshotError as error:
        raise SnapshotError(f"{path}: {error}") from error
    except OSError as error:
        raise SnapshotError(f"{path}: cannot be read ({error.strerror})") from error
    except json.JSONDecodeError as error:
        raise SnapshotError(f"{path}:{error.lineno}: broken JSON ({error.msg}); {back}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotError(
            f"{path}: not a contract ({type(error).__name__}: {error}); {back}"
        ) from error


def write(contract: ApiSnapshot, path: Path) -> None:
    """Write one contract, one name per line, whole or not at all; its folder too."""
    text = json.dumps(contract.to_json(), indent=1, ensure_ascii=False)
    write_whole(path, text + "\n")
