"""What engines were seen to do, as a Markdown table: ``python -m pytest_rllm conformance DIR``.

A file per engine holds what the conformance suite found on it (``--rllm-conformance DIR``). Rows
are capabilities in plain words, columns are engines.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from .page_marks import PageError, escaped, write_or_print

HELP = "print the table of engines and capabilities from the files of --rllm-conformance DIR"
SCHEMA = 1
BEGIN, END = "<!-- conformance: begin -->", "<!-- conformance: end -->"
"""What the table stands between on a page."""
SHORT = 24
"""Characters of a reason that fits into a cell; longer ones are footnotes."""
ROWS: Mapping[str, tuple[str, ...]] = {
    "tells its version and its health": (
        "test_it_tells_its_version_and_a_label",
        "test_its_server_is_healthy",
    ),
    "streams answers with usage and a finish reason": (
        "test_a_stream_ends_with_a_reason_and_tells_its_usage",
        "test_the_role_is_no_token",
    ),
    "finish reason `length` at the budget": ("test_an_answer_that_is_cut_off_ends_with_length",),
    "finish reason `stop` where an answer ends": (
        "test_an_answer_that_ends_by_itself_ends_with_stop",
    ),
    "reasoning in a field of its own": ("test_reasoning_comes_in_a_field_of_its_own",),
    "serves the plain model, too": ("test_the_plain_model_does_not_reason",),
    "answers of a fixed length": (
        "test_a_fixed_length_is_kept",
        "test_a_fixed_length_that_is_not_declared_is_refused",
    ),
    "tokens of every delta": ("test_every_delta_tells_its_tokens",),
    "log probabilities": ("test_log_probabilities_are_told",),
    "seeds": ("test_a_seed_decides_what_is_sampled",),
    "tells its sampling defaults": (
        "test_it_tells_what_a_request_without_sampling_parameters_gets",
    ),
    "keeps connections, or is known not to": ("test_the_connection_is_kept_as_declared",),
    "gives up what a client left": ("test_a_stream_that_the_client_leaves_is_given_up",),
    "answers after a client left": ("test_it_answers_after_a_client_left",),
    "metrics: all declared series": ("test_declared_series_are_on_the_page",),
    "metrics: counters are what clients count": ("test_counters_grow_as_clients_count",),
    "metrics: gauges move and go back": (
        "test_gauges_move_under_load_and_go_back",
        "test_shares_stay_within_0_and_1",
    ),
    "prefix caching, really on": ("test_prefix_caching_is_really_on",),
    "prefix caching, off by default": ("test_prefix_caching_is_off_where_it_is_not_asked_for",),
    "prefix cache can be emptied": ("test_the_prefix_cache_can_be_emptied",),
    "speculation by n-grams, really on": ("test_speculation_is_really_on[ngram]",),
    "speculation by a draft model, really on": ("test_speculation_is_really_on[draft]",),
    "KV cache of a smaller type holds more": ("test_a_kv_cache_of_another_type_holds_more",),
    "what it lacks is refused before a start": (
        "test_what_is_not_declared_is_refused_with_a_reason",
    ),
    "refuses a request without messages": (
        "test_a_request_that_cannot_be_served_is_refused[no messages]",
    ),
    "refuses a prompt beyond the context": (
        "test_a_request_that_cannot_be_served_is_refused[too long a prompt]",
    ),
    "refuses `max_tokens` of -1": (
        "test_a_request_that_cannot_be_served_is_refused[negative max_tokens]",
    ),
    "at rest it leaves the processors alone": (
        "test_an_idle_server_leaves_the_processors_to_the_other_arm",
    ),
    "a failed start says why": ("test_a_server_that_does_not_start_says_why",),
    "a taken port is noticed": ("test_a_port_that_another_server_took_is_said",),
    "when killed, requests fail and it is replaced": (
        "test_a_server_that_is_killed_fails_its_requests_and_is_replaced",
    ),
    "nothing is left when it is stopped": ("test_a_server_is_gone_when_it_is_stopped",),
}
"""Capability to the tests that show it; all of them must pass."""


@dataclass(frozen=True)
class Found:
    """What the suite found on one engine.

    Attributes:
        engine: what the file is called after.
        distribution, version: of the build.
        on: ``CPU`` or ``GPU``.
        hardware: class of the machine.
        date: of the run, ISO.
        tests: outcome by name of a test: ``passed``, ``skipped`` or ``failed``, with the reason.
    """

    engine: str
    distribution: str
    version: str
    on: str
    hardware: str
    date: str
    tests: Mapping[str, Mapping[str, str]]

    @property
    def title(self) -> str:
        """Heading of its column."""
        build = f"{self.distribution} {self.version}"
        return (
            f"{build if self.engine == self.distribution else f'{self.engine}: {build}'}, {self.on}"
        )

    def of(self, tests: Sequence[str]) -> tuple[str, str]:
        """``yes``, ``no``, ``failed`` or ``not run``, and the reason."""
        told = [self.tests.get(test) for test in tests]
        for outcome, word in (("failed", "failed"), ("skipped", "no")):
            for one in told:
                if one is not None and one["outcome"] == outcome:
                    return word, one["reason"]
        return ("not run", "") if None in told else ("yes", "")


def read(folder: Path) -> list[Found]:
    """All engines of a folder, by name.

    Raises:
        PageError: there is none, or a file is of another kind.
    """
    found = []
    for file in sorted(folder.glob("*.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            schema = content.pop("schema")
            if schema != SCHEMA:
                raise PageError(
                    f"{file} is of schema {schema}, and this version reads {SCHEMA}: make it anew "
                    "with --rllm-conformance"
                )
            found.append(Found(**content))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, PageError):
                raise
            raise PageError(
                f"{file} is no file of --rllm-conformance ({type(error).__name__}: {error}): "
                "remove it, or make it anew"
            ) from error
    if not found:
        raise PageError(f"there is no NAME.json in {folder}: run --rllm-conformance {folder}")
    return found


def table(found: Sequence[Found]) -> str:
    """The Markdown table, with its footnotes and with where and when each engine was seen."""
    notes: list[str] = []

    def cell(word: str, reason: str) -> str:
        if not reason:
            return word
        if len(reason) <= SHORT:
            return f"{word}: {escaped(reason)}"
        if reason not in notes:
            notes.append(reason)
        return f"{word} ({notes.index(reason) + 1})"

    body = [[words, *(cell(*one.of(tests)) for one in found)] for words, tests in ROWS.items()]
    headers = ["capability", *(one.title for one in found)]
    lines = [tabulate(body, headers=headers, tablefmt="github", disable_numparse=True)]
    if notes:
        lines.append("\n".join(f"{n}. {escaped(note)}" for n, note in enumerate(notes, 1)))
    seen = "; ".join(f"{one.title}: {one.date} on `{one.hardware}`" for one in found)
    return "\n\n".join([*lines, f"Seen: {seen}."])


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="where --rllm-conformance wrote")
    parser.add_argument(
        "--page",
        metavar="FILE",
        type=Path,
        help="write the table into this page, between its marks",
    )


def run(given: argparse.Namespace) -> int:
    """Print the table, or write it into a page; the exit status is 2 where that cannot be."""
    return write_or_print(lambda: table(read(given.folder)), given.page, (BEGIN, END))
