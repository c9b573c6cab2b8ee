"""``vllm bench serve --save-result --save-detailed``: lists with an entry per request.

It times every event of a stream that has a choice. On the completions API each is a token or more.
On the chat API the first may carry the role alone, and what the others carried is not told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

from .. import metrics
from .foreign import (
    KNOWN_TO,
    NO_FINISH,
    Foreign,
    Importer,
    ImportRefused,
    elapsed,
    one_token_each,
    request,
    uneven,
    unnamed,
)

NAME = "vllm bench serve"
COMPLETIONS = ("vllm", "openai")
CHAT = ("openai-chat",)
"""Its names (``--backend``) for the two APIs."""
DETAILED = ("start_times", "ttfts", "itls", "output_lens", "input_lens", "errors")
COUNTERS = {
    "drafts": "spec_decode_num_drafts",
    "draft_tokens": "spec_decode_draft_tokens",
    "accepted_tokens": "spec_decode_accepted_tokens",
}


@dataclass(frozen=True)
class _Request:
    """One entry of each of the lists in DETAILED; times in seconds."""

    sent: float
    ttft: float
    itls: list[float]
    tokens: int
    prompt_tokens: int
    error: str

    @property
    def failed(self) -> bool:
        return bool(self.error) or not self.ttft

    @property
    def count(self) -> tuple[int, int]:
        """Events that were timed, and tokens."""
        return 1 + len(self.itls), self.tokens


LOAD = ("backend", "request_rate", "burstiness", "max_concurrency", "num_prompts")


def recognises(documents: Sequence[dict[str, Any]]) -> bool:
    marks = {"backend", "model_id", "num_prompts", "request_rate", "duration", "completed"}
    return all(marks <= document.keys() for document in documents)


def read(documents: Sequence[dict[str, Any]], _path: Path) -> list[Foreign]:
    """One run per result; ``--append-result`` puts several into a file."""
    return [_run(result, i) for i, result in enumerate(documents, 1)]


def _run(result: dict[str, Any], number: int) -> Foreign:
    if result["backend"] not in (*COMPLETIONS, *CHAT):
        raise ImportRefused(
            f"made with --backend {result['backend']}; only {', '.join((*COMPLETIONS, *CHAT))} "
            "stream an answer in a way that is known here"
        )
    missing = [name for name in DETAILED if name not in result]
    if missing:
        raise ImportRefused(
            f"result {number} of {NAME} holds no {', '.join(missing)} per request: run it with "
            "--save-result --save-detailed (only newer versions keep start_times)"
        )
    requests = [_Request(*row) for row in zip(*(result[name] for name in DETAILED), strict=True)]
    for i, one in enumerate(requests):
        elapsed(i, "start_times", one.sent)
        elapsed(i, "ttfts", one.ttft)
        for gap in one.itls:
            elapsed(i, "itls", gap)
    finished = [one for one in requests if not one.failed]
    n_failed = len(requests) - len(finished)
    told = result["completed"], result.get("failed", n_failed)
    if told != (len(finished), n_failed):
        raise ImportRefused(
            f"result {number} of {NAME} tells of {told[0]} finished and {told[1]} failed requests "
            f"and lists {len(finished)} and {n_failed}"
        )
    one_each = result["backend"] in COMPLETIONS and one_token_each([o.count for o in finished])
    queues = _queues(result)
    waits = queues or [0.0] * len(requests)
    for i, wait in enumerate(waits):
        elapsed(i, "queue_times", wait)
    due = [one.sent - wait for one, wait in zip(requests, waits, strict=True)]
    samples = []
    for i, one in enumerate(requests):
        sent_s = one.sent - min(due)
        events = [sent_s + at for at in accumulate(one.itls, initial=one.ttft)] if one.ttft else []
        samples.append(
            request(
                str(i),
                intended_s=due[i] - min(due),
                sent_s=sent_s,
                ended_s=events[-1] if events else sent_s,
                deltas=unnamed(events, one_each=one_each and not one.failed),
                output_tokens=None if one.failed else one.tokens,
                error=_cause(one.error) if one.failed else None,
            )
        )
    return Foreign(
        tool=NAME,
        name=result.get("label") or f"result {number}",
        load={name: result[name] for name in LOAD},
        began=datetime.strptime(result["date"], "%Y%m%d-%H%M%S").timestamp(),
        planned=len(requests),
        samples=samples,
        input_tokens=sum(one.prompt_tokens for one in requests),
        not_kept=_not_kept(result, finished, one_each=one_each, due=queues is not None),
        doubts=[
            "output tokens are the engine's count, or the tool's own where the engine told none",
            NO_FINISH,
        ],
        counters={ours: result[theirs] for ours, theirs in COUNTERS.items() if theirs in result},
    )


def _queues(result: dict[str, Any]) -> list[float] | None:
    """Seconds that requests waited in the client past their time; None when that was not kept.

    Without a rate no request has a time of its own: it is due when a place is free.
    """
    none = [0.0] * len(result["start_times"])
    if result["request_rate"] == "inf":
        return none
    queues: list[float] | None = result.get("queue_times")
    return none if queues is None and result["max_concurrency"] is None else queues


def _not_kept(
    result: dict[str, Any], finished: list[_Request], *, one_each: bool, due: bool
) -> dict[str, str]:
    why = {
        metrics.TTFVT.name: "keeps no text per event",
        metrics.REASONING_TOKENS.name: "keeps no text per event",
    }
    if result["backend"] in CHAT:
        why[metrics.DELTAS_PER_S.name] = (
            "counts events of a chat that carry the role or the end alone (those of --backend "
            "openai all carry tokens)"
        )
        why[metrics.TBT.name] = (
            "does not keep which events of a chat carried tokens (--backend openai does)"
        )
        if finished and not _first_is_known(finished):
            why[metrics.TTFT.name] = (
                "times the first event of a chat, which may carry the role alone, and the next one "
                "came later: which held the first token was not kept (--backend openai tells it)"
            )
    elif not one_each:
        why[metrics.TBT.name] = uneven([one.count for one in finished])
    if not due:
        for metric in (metrics.TTFT, metrics.E2E):
            why[metric.name] = (
                "of this version does not keep when a request was due, and some waited for one "
                "of the --max-concurrency places"
            )
    if any(name not in result for name in COUNTERS.values()):
        for metric in (metrics.ACCEPTANCE_RATE, metrics.ACCEPTANCE_LENGTH):
            why[metric.name] = "read no counters of speculation at the engine"
    return why


def _first_is_known(finished: list[_Request]) -> bool:
    """Whether the role's event and the next came together, so that TTFT is bounded by both."""
    if not all(one.itls for one in finished):
        return False
    first = median(one.ttft for one in finished)
    second = median(one.ttft + one.itls[0] for one in finished)
    return second <= first * (1 + KNOWN_TO)


def _cause(error: str) -> str:
    """The last line of a traceback, or the reason as it is."""
    return error.strip().rpartition("\n")[2] or "failed; the tool kept no cause"


IMPORTER = Importer(
    name=NAME,
    known="0.32",
    wanted="the JSON of `vllm bench serve --save-result --save-detailed`",
    recognises=recognises,
    read=read,
)
