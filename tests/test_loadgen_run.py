"""A record holds what the server sent and when, from good servers and from hostile ones."""

from __future__ import annotations

import itertools
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from doubles.hostile_server import BIG, GOOD, HOSTILE
from doubles.scripted_load import NAMES, by_name, noticed, run, tokens, with_cuts
from doubles.scripted_server import AnswerScript, ScriptedServer, SentDelta

from pytest_rllm.engines.pool import free_port
from pytest_rllm.experiment.workloads import Workload, closed, gamma, poisson, together
from pytest_rllm.loadgen import pages
from pytest_rllm.loadgen.pages import Scrape
from pytest_rllm.metrics import E2E, KV_PEAK, counted
from pytest_rllm.records.reader import read_run
from pytest_rllm.records.run import RecordError, Run, Sample
from pytest_rllm.telemetry.prometheus import Page
from pytest_rllm.verdicts.claims import higher, lower, pct, pp
from pytest_rllm.verdicts.validity import problems


class Clock:
    """The monotonic clock; its first reading is the start of the run."""

    start: float | None = None

    def __call__(self) -> float:
        now = time.monotonic()
        self.start = self.start or now
        return now


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


# ---- faithfulness


PACKINGS = {
    "one event per write": {},
    "several events per write": {"events_per_write": 3},
    "one event over several writes": {"writes_per_event": 3},
}


@pytest.mark.parametrize("counts", ["usage", "token_ids", None])
@pytest.mark.parametrize("packing", PACKINGS)
def test_every_delta_is_recorded_when_it_arrived(
    server: ScriptedServer, path: Path, packing: str, counts: str | None
) -> None:
    names = [f"question {i}" for i in range(6)]
    for i, name in enumerate(names):
        server.answers[name] = AnswerScript(counts=counts, seed=i, gap_s=0.06, **PACKINGS[packing])
    clock = Clock()
    samples = by_name(run(server.url, names, together(), path, clock=clock))
    delays, durations = [], []
    for name in names:
        sample, truth = samples[name], server.sent[name]
        assert sample.error is None
        assert [(d.field, d.text) for d in sample.deltas] == [(t.field, t.text) for t in truth]
        assert [d.tokens for d in sample.deltas] == [t.tokens if counts else None for t in truth]
        assert sample.output_tokens == (sum(t.tokens for t in truth) if counts else None)
        delays += [clock.start + d.at_s - t.at for d, t in zip(sample.deltas, truth, strict=True)]
        durations.append(truth[-1].at - truth[0].at)
    assert min(delays) >= 0, "recorded before it was sent"
    # If all deltas got the time at which their response ended, the median would be half of it.
    assert statistics.median(delays) < statistics.median(durations) / 3


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("style", ["reasoning", "reasoning_content", "think"])
def test_first_token_and_first_visible_token_are_distinguished(
    server: ScriptedServer, path: Path, style: str, packing: str
) -> None:
    pause_s = 0.4
    server.default = AnswerScript(style, first_s=pause_s, think_s=pause_s, **PACKINGS[packing])
    clock = Clock()
    (sample,) = run(server.url, ["one"], together(), path, clock=clock).samples
    truth = server.sent["one"]
    assert sample.reasoned
    assert sample.answer.strip() == "".join(t.text for t in truth if t.visible).strip()
    assert sample.reasoning_tokens == sum(t.tokens for t in truth if not t.visible)
    first, visible = truth[0], next(t for t in truth if t.visible)
    # The role, or a token before or after the pause, would be wrong by the whole pause.
    assert sample.first_token_s == pytest.approx(first.at - clock.start, abs=pause_s / 2)
    assert sample.first_visible_s == pytest.approx(visible.at - clock.start, abs=pause_s / 2)


def test_role_alone_is_no_token(server: ScriptedServer, path: Path) -> None:
    server.default = AnswerScript(first_s=0.3)  # the role is sent at once
    (sample,) = run(server.url, ["one"], together(), path).samples
    assert sample.first_token_s >= 0.3


# ---- hostile servers


@pytest.fixture(scope="module")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, list[SentDelta]]]:
    """One run in which every hostile answer and five good ones are given."""
    path = tmp_path_factory.mktemp("hostile") / "run.jsonl"
    with ScriptedServer(GOOD) as server:
        server.answers |= {name: case.answer for name, case in HOSTILE.items()}
        names = ["good 0", *HOSTILE, *(f"good {i}" for i in range(1, 5))]
        done = run(server.url, names, together(), path)
    stored = read_run(path)
    assert stored.samples == [rounded(s) for s in done.samples]
    assert stored.closing == done.closing
    return stored, server.sent


@pytest.mark.parametrize("name", HOSTILE)
def test_failure_is_named_and_what_had_arrived_is_kept(
    hostile_run: tuple[Run, dict[str, list[SentDelta]]], name: str
) -> None:
    stored, sent_by_name = hostile_run
    sample, case = by_name(stored)[name], HOSTILE[name]
    if case.cause is None:
        assert sample.error is None
    else:
        assert re.search(case.cause, sample.error or "none")
    assert len(sample.deltas) == case.kept
    sent = [(t.field, t.tokens, t.text) for t in sent_by_name[name]]
    assert [(d.field, d.tokens, d.text) for d in sample.deltas[: len(sent)]] == sent
    assert sample.ended_s >= max((d.at_s for d in sample.deltas), default=sample.sent_s)


def test_failed_requests_leave_the_others_and_the_run_alone(
    hostile_run: tuple[Run, dict[str, list[SentDelta]]],
) -> None:
    stored, sent_by_name = hostile_run
    good = [s for s in stored.samples if s.prompt.id.startswith("good")]
    assert len(good) == 5
    for sample in good:
        assert sample.error is None
        assert [d.text for d in sample.deltas] == [t.text for t in sent_by_name[sample.prompt.id]]
    assert stored.closing["planned"] == len(HOSTILE) + 5


def test_large_delta_arrives_whole(hostile_run: tuple[Run, dict[str, list[SentDelta]]]) -> None:
    sample = by_name(hostile_run[0])["ten_megabytes_in_one_delta"]
    assert sample.deltas[-1].text == "x" * BIG


@pytest.mark.parametrize(
    ("host", "cause"), [("127.0.0.1", "(?i)refused|cannot connect"), ("nowhere.invalid", "nowhere")]
)
def test_server_that_is_not_there(path: Path, host: str, cause: str) -> None:
    done = run(f"http://{host}:{free_port()}", ["a", "b", "c"], closed(2), path)
    assert len(done.samples) == 3
    for sample in done.samples:
        assert re.search(cause, sample.error)
        assert sample.deltas == []
    assert read_run(path).closing["planned"] == 3


# ---- workloads


SLOW = higher(E2E, by=pct(10))


def test_together_starts_everything_at_once(server: ScriptedServer, path: Path) -> None:
    server.default = AnswerScript(first_s=0.5)
    done = run(server.url, NAMES, together(), path)
    assert [s.intended_s for s in done.samples] == [0.0] * len(NAMES)
    assert server.most_in_flight == len(NAMES)


@pytest.mark.parametrize("in_flight", [1, 3])
def test_closed_loop_starts_the_next_when_one_ends(
    server: ScriptedServer, path: Path, in_flight: int
) -> None:
    for i, name in enumerate(NAMES):
        server.answers[name] = AnswerScript(seed=i)
    done = run(server.url, NAMES, closed(in_flight), path)
    assert server.most_in_flight == in_flight
    starts = sorted(s.intended_s for s in done.samples)
    ends = sorted(s.ended_s for s in done.samples)
    assert starts == [0.0] * in_flight + ends[: len(NAMES) - in_flight]
    assert list(server.sent) == NAMES, "asked in another order"


@pytest.mark.parametrize("workload", [poisson(40), gamma(40, 3.0, seed=2)], ids=str)
def test_open_loop_keeps_its_schedule_when_answers_are_slow(path: Path, workload: Workload) -> None:
    answer_s = 0.15
    script = AnswerScript(reasoning=1, answer=1, first_s=answer_s)
    with ScriptedServer(script, slots=1) as server:
        done = run(server.url, NAMES, workload, path)
        in_flight = server.most_in_flight
    assert in_flight > len(NAMES) / 2, "the client waited for answers"
    samples = by_name(done)
    intended = [samples[name].intended_s for name in NAMES]
    assert intended == pytest.approx(workload.starts(len(NAMES)), abs=1e-6)
    # A client that waited for answers would be late by one or more of them.
    assert statistics.median(s.sent_s - s.intended_s for s in done.samples) < answer_s
    # The server answers one request at a time; the last one waited for all others.
    waited = [samples[name].first_token_s - samples[name].intended_s for name in NAMES]
    assert waited[-1] > answer_s * len(NAMES) - samples[NAMES[-1]].intended_s


@pytest.mark.parametrize("workload", [closed(1), gamma(10, 0.1)], ids=str)
def test_a_blocked_client_is_late_and_its_run_is_invalid(
    server: ScriptedServer, path: Path, workload: Workload
) -> None:
    blocked_s = 0.3

    def block(_done: int, _all: int) -> None:
        time.sleep(blocked_s)

    done = run(server.url, NAMES[:6], workload, path, progress=block)
    assert max(s.sent_s - s.intended_s for s in done.samples) > blocked_s / 2
    assert done.closing["loop_lag_max_s"] > blocked_s * 0.8
    mean_from_sent_s = statistics.fmean(s.ended_s - s.sent_s for s in done.samples)
    assert E2E.of_run(done) > mean_from_sent_s + blocked_s / 6
    assert any("the client was saturated" in p for p in problems([(done, done)], [SLOW]))


# ---- requests that are cut


@pytest.mark.parametrize("cut_after", [1, 8])
@pytest.mark.parametrize("workload", [together(), closed(2), poisson(100)], ids=str)
def test_cut_requests_are_hung_up_and_leave_no_sample(
    server: ScriptedServer, path: Path, workload: Workload, cut_after: int
) -> None:
    names, cut = with_cuts(server, cut_after)
    progress = []
    done = run(server.url, names, workload, path, cut, progress=lambda *now: progress.append(now))
    assert sorted(server.sent) == sorted(names), "all were asked"
    assert noticed(server, cut)
    for name in cut:  # the first chunk holds the role alone; the server notices a little later
        assert cut_after - 1 <= len(server.sent[name]) < cut_after + 30
    assert sorted(by_name(done)) == sorted(set(names) - cut.keys())
    assert (done.closing["planned"], done.closing["cut"]) == (8, 4)
    assert "cut question" not in path.read_text()
    assert progress == [(i, len(names)) for i in range(1, len(names) + 1)]


def test_requests_beside_aborted_ones_are_recorded(server: ScriptedServer, path: Path) -> None:
    names, cut = with_cuts(server, 3)
    done = run(server.url, names, closed(3), path, cut)
    for sample in done.samples:
        assert (sample.error, sample.finish_reason) == (None, "stop")
        truth = server.sent[sample.prompt.id]
        assert [(d.text, d.tokens) for d in sample.deltas] == [(t.text, t.tokens) for t in truth]
    assert problems([(done, done)], [SLOW]) == []
    assert read_run(path) == done


def test_a_lane_goes_on_when_a_request_of_it_was_cut(server: ScriptedServer, path: Path) -> None:
    names, cut = with_cuts(server, 2)
    done = run(server.url, names, closed(1), path, cut)
    assert list(server.sent) == names
    assert len(done.samples) == len(names) - len(cut)
    samples = by_name(done)
    for name in names[2::3]:  # each follows one that was cut
        assert samples[name].intended_s > samples[names[names.index(name) - 2]].ended_s


def test_no_request_is_aborted_by_default(server: ScriptedServer, path: Path) -> None:
    done = run(server.url, NAMES[:3], together(), path)
    assert (done.closing["planned"], done.closing["cut"], server.hung_up) == (3, 0, [])


@pytest.mark.parametrize("name", ["server_error", "close_early", "stall"])
def test_a_request_that_failed_before_it_was_cut_is_not_counted(
    server: ScriptedServer, path: Path, name: str
) -> None:
    server.answers["cut"] = HOSTILE[name].answer
    done = run(server.url, ["a", "cut", "b"], together(), path, {"cut": 50})
    assert (done.closing["planned"], done.closing["cut"]) == (2, 0)
    assert [s.error for s in done.samples] == [None, None]


def test_a_request_that_ended_before_it_was_cut_is_not_counted(
    server: ScriptedServer, path: Path
) -> None:
    done = run(server.url, ["a", "cut", "b"], together(), path, {"cut": 5000})
    assert server.hung_up == []
    assert (done.closing["planned"], done.closing["cut"]) == (2, 0)


# ---- telemetry


def test_telemetry_spans_the_run(server: ScriptedServer, path: Path) -> None:
    server.default = AnswerScript(first_s=0.3)
    run(server.url, ["before"], together(), path)
    scrape = Scrape(f"{server.url}/metrics", tokens, every_s=0.05)
    done = run(server.url, NAMES, together(), path, scrape=scrape)
    times, values = done.series["tokens"]
    assert times[0] == 0.0
    assert times == sorted(times)
    assert times[-1] >= max(s.ended_s for s in done.samples)
    assert len(times) > 3, "nothing was read while requests ran"
    assert counted(done, "tokens") == sum(s.output_tokens for s in done.samples)
    assert values[0] > 0, "the counter does not start at 0"
    assert read_run(path).series == {"tokens": ([round(t, 6) for t in times], values)}


def test_telemetry_that_fails_is_counted_by_cause(server: ScriptedServer, path: Path) -> None:
    server.default = AnswerScript(first_s=0.3)
    server.page_status = lambda number: "503 Busy" if number % 3 == 0 else "200 OK"

    calls = itertools.count()

    def read(page: str) -> Page:
        if next(calls) % 3 == 1:
            raise LookupError("no such series")
        return tokens(page)

    scrape = Scrape(f"{server.url}/metrics", read, every_s=0.03)
    done = run(server.url, NAMES, together(), path, scrape=scrape)
    assert all(s.error is None for s in done.samples)
    errors = done.closing["telemetry_errors"]
    refused = sum(n for cause, n in errors.items() if "503" in cause)
    assert refused >= 1
    assert errors["LookupError: no such series"] >= 1
    # One reading may be cut off by the end of the run.
    assert 0 <= server.pages - sum(errors.values()) - len(done.series["tokens"][0]) <= 1


def test_a_series_that_is_on_no_page_is_missing_and_the_others_are_read(
    server: ScriptedServer, path: Path
) -> None:
    server.default = AnswerScript(first_s=0.3)
    calls = itertools.count()

    def read(page: str) -> Page:
        return Page(tokens(page).values, {"kv_use": f"kv_use: not on page {next(calls)}"})

    scrape = Scrape(f"{server.url}/metrics", read, every_s=0.05)
    done = run(server.url, NAMES, together(), path, scrape=scrape)
    assert done.closing["series_missing"] == {"kv_use": "kv_use: not on page 0"}
    assert done.closing["telemetry_errors"] == {}
    assert counted(done, "tokens") == sum(s.output_tokens for s in done.samples)
    assert read_run(path).closing == done.closing
    assert problems([(done, done)], [SLOW, lower(KV_PEAK, by=pp(5))]) == [
        "A: kv_use: not on page 0"
    ]


def test_telemetry_goes_on_after_a_page_that_hangs(
    server: ScriptedServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "SCRAPE_WITHIN_S", 0.2)
    server.default = AnswerScript(first_s=1.0)
    server.page_status = lambda number: None if number == 2 else "200 OK"
    scrape = Scrape(f"{server.url}/metrics", tokens, every_s=0.05)
    done = run(server.url, NAMES, together(), path, scrape=scrape)
    assert done.closing["telemetry_errors"] == {"TimeoutError: no page within 0.2 s": 1}
    assert len(done.series["tokens"][0]) > 3


# ---- the record


def test_finished_requests_are_on_disk_before_the_run_ends(
    server: ScriptedServer, path: Path
) -> None:
    on_disk = []

    def look(done: int, _all: int) -> None:
        stored = read_run(path)
        assert stored.closing is None
        on_disk.append((done, len(stored.samples)))

    run(server.url, NAMES, closed(4), path, progress=look)
    assert on_disk == [(i, i) for i in range(1, len(NAMES) + 1)]
    assert read_run(path).closing is not None


KILLED = """
import sys
from pathlib import Path
from doubles.scripted_load import NAMES, run
from pytest_rllm.experiment.workloads import closed
run(sys.argv[1], NAMES, closed(1), Path(sys.argv[2]))
"""


def test_killed_run_leaves_a_record_that_is_cut_short(server: ScriptedServer, path: Path) -> None:
    async def never(_reply: object) -> None:
        killed.kill()

    server.answers[NAMES[3]] = never
    killed = subprocess.Popen(
        [sys.executable, "-c", KILLED, server.url, str(path)], cwd=Path(__file__).parent
    )
    assert killed.wait(60) == -signal.SIGKILL
    stored = read_run(path)
    assert [s.prompt.id for s in stored.samples] == NAMES[:3]
    assert stored.closing is None
    assert problems([(stored, stored)], [SLOW]) == ["A: the record was cut short after 3 requests"]


def test_record_cut_at_any_byte_is_read_as_far_as_it_goes(
    server: ScriptedServer, path: Path
) -> None:
    server.default = AnswerScript(reasoning=2, answer=8)
    whole = run(server.url, NAMES[:2], together(), path)
    data = path.read_bytes()
    assert read_run(path).samples == [rounded(s) for s in whole.samples]
    header = data.index(b"\n") + 1
    for size in range(len(data)):
        path.write_bytes(data[:size])
        if size < header - 1:
            with pytest.raises(RecordError):
                read_run(path)
            continue
        stored = read_run(path)
        assert len(stored.samples) >= data[:size].count(b'\n{"kind":"sample"') - 1
        assert stored.closing is None or size == len(data) - 1


def rounded(sample: Sample) -> Sample:
    """The sample as it is stored: times in whole microseconds."""
    return replace(
        sample,
        **{k: round(getattr(sample, k), 6) for k in ("intended_s", "sent_s", "ended_s")},
        deltas=[replace(d, at_s=round(d.at_s, 6)) for d in sample.deltas],
    )
