"""Where runs come from: servers of one or more engines, each its own arms; or records, packed or
not."""

from __future__ import annotations

import asyncio
import json
import lzma
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from doubles.arms import CACHING, arm, prompts
from doubles.mock_session import DeclaringEngine
from doubles.scripted_server import AnswerScript, Reply, ScriptedServer
from doubles.synthetic import record, run, sample

from pytest_rllm.datasets.prompts import Prompt, Turn
from pytest_rllm.engines.api_snapshot import ApiSnapshot
from pytest_rllm.engines.base import CannotServe, Endpoint, EngineError
from pytest_rllm.engines.capabilities import Capabilities
from pytest_rllm.engines.server import Attached, Server
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed
from pytest_rllm.loadgen.fidelity import ClientCapacity, Fidelity
from pytest_rllm.loadgen.run import drive
from pytest_rllm.models import PAIRS, ModelPair
from pytest_rllm.records.header import CONTEXT, Header
from pytest_rllm.records.reader import packed, read_run
from pytest_rllm.records.run import RecordError
from pytest_rllm.reports.progress import Progress
from pytest_rllm.session.live import Live
from pytest_rllm.session.probes import PROBE_TRIES, SIGNATURE_PROMPT, Probes
from pytest_rllm.session.replay import Replay
from pytest_rllm.session.sources import EngineDied, Place
from pytest_rllm.telemetry.gpu import Gpu

SAID = ApiSnapshot("vllm", "vllm", "1", "tiny: reasoning", (), ("delta.reasoning",), (), {}, "t")
QUICK = AnswerScript(first_s=0.0, gap_s=0.0)
ENGINES = {
    "new": DeclaringEngine("engine 2", Capabilities()),
    "old": DeclaringEngine("engine 1", Capabilities()),
}


class Known(ClientCapacity):
    """A client that need not be measured."""

    def at_least(self, streams: int, *_: Any) -> Fidelity:
        return Fidelity(streams, 1, 1e6, 0.0, 0.0)


@dataclass
class MockServer(Attached):
    """A scripted server that the pool is said to have started."""

    up: bool = True

    def answers(self, path: str) -> bool:
        return self.up

    def stop(self) -> None:
        self.up = False


@dataclass
class MockPool:
    """Starts nothing: one scripted server stands for all, and what was asked for is noted."""

    url: str
    folder: Path
    fails: str = ""
    asked: list[tuple[list[str], int]] = field(default_factory=list)
    servers: list[MockServer] = field(default_factory=list)

    def serve(
        self,
        engine: Endpoint,
        serving: Serving,
        pair: ModelPair,
        *,
        beside: Sequence[Server] = (),
        copy: int = 0,
    ) -> MockServer:
        self.asked.append(([engine.label], len(beside)))
        return self._server(engine, serving, pair, copy)

    def serve_all(
        self,
        wanted: Sequence[tuple[Endpoint, Serving, ModelPair]],
        *,
        copy: int = 0,
        alone: bool = False,
    ) -> list[MockServer]:
        self.asked.append(([engine.label for engine, _, _ in wanted], 0))
        if self.fails in self.asked[-1][0]:
            raise EngineError(f"{self.fails} ended: out of memory")
        return [self._server(*one, copy) for one in wanted]

    def _server(self, engine: Endpoint, serving: Serving, pair: ModelPair, copy: int) -> MockServer:
        for server in self.servers:
            if (server.engine, server.serving, server.copy) == (engine, serving, copy):
                return server
        number = len(self.servers) + 1
        self.servers.append(MockServer(engine, serving, pair, self.url, number, copy=copy))
        return self.servers[-1]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(QUICK) as server:
        yield server


@pytest.fixture
def live(server: ScriptedServer, tmp_path: Path) -> Live:
    """Measures with the real client on a scripted server."""
    pool: Any = MockPool(server.url, tmp_path / "servers")
    return Live(
        ENGINES.__getitem__,
        PAIRS["tiny"],
        pool,
        Gpu(),
        tmp_path,
        Progress(None),
        capacity=Known(),
    )


@pytest.fixture
def pool(live: Live) -> MockPool:
    pool: Any = live.pool
    return pool


class NotTimed:
    """A reference load that cannot be run."""

    def seconds(self) -> None:
        return None


@pytest.fixture
def anchored(live: Live) -> Live:
    """Beside its servers no load can be timed: they answer a probe instead."""
    live.reference = lambda _server: NotTimed()
    return live


async def expired(reply: Reply) -> None:
    """As a gateway does whose key has expired."""
    reply.chunked = False
    reply.head("401 Unauthorized", "text/plain")
    reply.write(b"expired")
    reply.open = False


async def stall(reply: Reply) -> None:
    """Some text, and nothing more."""
    reply.head()
    await reply.play(QUICK, upto=1)
    await reply.writer.drain()
    await asyncio.Event().wait()


ARMS = [arm(engine=engine, prompts=prompts(4)) for engine in ("new", "old")]
LABELS = ["engine 2", "engine 1"]
HOLDS = {CONTEXT: 1536}
"""What every record of a server of ours notes: tokens of a prompt and its answer together."""
HEADER = Header(arm="an arm", fingerprint="f")


@pytest.mark.parametrize("turned", [False, True], ids=["as named", "turned"])
def test_servers_of_two_engines_start_at_the_same_time_each_with_its_own_arm(
    live: Live, pool: MockPool, turned: bool
) -> None:
    order, labels = (ARMS[::-1], LABELS[::-1]) if turned else (ARMS, LABELS)
    live.prepare(order)
    assert pool.asked == [(labels, 0)]
    assert [server.engine.label for server in pool.servers] == labels


def test_servers_of_one_engine_are_asked_for_together(live: Live, pool: MockPool) -> None:
    live.prepare([ARMS[0], replace(ARMS[0], serving=CACHING)])
    assert pool.asked == [(["engine 2", "engine 2"], 0)]
    assert [server.serving for server in pool.servers] == [Serving(), CACHING]


def test_a_copy_of_the_servers_stands_beside_them_and_is_asked_from_then_on(
    live: Live, pool: MockPool
) -> None:
    numbers = []
    for copy in (0, 1, 0, 1):
        live.prepare(ARMS, copy=copy)
        runs = [live.run(one, Path(one.engine), HEADER, Place()) for one in ARMS]
        numbers.append([run.header.server for run in runs])
    assert numbers == [[1, 2], [3, 4], [1, 2], [3, 4]]
    assert all(server.up for server in pool.servers)


def test_an_answer_that_came_in_one_burst_is_no_rate_to_measure_the_client_at(
    live: Live, server: ScriptedServer
) -> None:
    """A stalled machine reads a whole answer at once: 11 deltas in no time."""
    server.default = AnswerScript(first_s=0.2, gap_s=0.0)
    live.prepare(ARMS[:1])
    (expected,) = live._paces.values()
    assert 0 < expected <= 11 / 0.2


class Prioritising(DeclaringEngine):
    """Takes priorities under a name of its own."""

    def prioritised(self, body: Mapping[str, Any], priority: int) -> dict[str, Any]:
        return {**body, "rank": priority}


def test_each_request_has_the_priority_of_its_prompt(live: Live, tmp_path: Path) -> None:
    live.engine_of = {"new": Prioritising("engine 2", Capabilities())}.__getitem__
    ranks = {f"q{i}": 7 - i for i in range(4)}
    serving = Serving(scheduling="priority")
    one = arm(engine="new", serving=serving, prompts=prompts(4), priorities=ranks)
    live.prepare([one])
    load = live._load(one, tmp_path / "a.jsonl", HEADER)
    load.writer.__exit__()
    assert [request.body["rank"] for request in load.requests] == [7, 6, 5, 4]
    plain = replace(one, serving=Serving(), priorities={})
    live.prepare([plain])
    load = live._load(plain, tmp_path / "b.jsonl", HEADER)
    load.writer.__exit__()
    assert not any("rank" in request.body for request in load.requests)


def test_a_warm_up_does_not_put_what_is_measured_into_the_prefix_cache(live: Live) -> None:
    asked: list[Prompt] = []

    class Noting(DeclaringEngine):
        def body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
            asked.append(prompt)
            return super().body(prompt, sampling)

    live.engine_of = {"new": Noting("engine 2", Capabilities())}.__getitem__
    before = (Turn("Which one?", "This one."),)
    live.prepare([arm(engine="new", prompts=[replace(p, before=before) for p in prompts(4)])])
    assert asked
    assert not any(prompt.before for prompt in asked)


def test_an_engine_without_priorities_takes_none() -> None:
    lacking = Capabilities(models=frozenset({"reasoning"})).lacking(Serving(scheduling="priority"))
    assert lacking == ["requests by priority"]
    with pytest.raises(CannotServe, match="'declaring' takes no priority of a request"):
        ENGINES["new"].prioritised({}, 1)


def test_two_runs_take_turns_and_say_so(live: Live, tmp_path: Path) -> None:
    arms = [replace(one, workload=closed(1)) for one in ARMS]
    live.prepare(arms)
    header = replace(HEADER, turns=4)
    wanted = [(one, Path(f"{one.engine}.jsonl"), header) for one in arms]
    runs = live.runs_in_turns(wanted, Place())
    assert [run.header.turns for run in runs] == [4, 4]
    assert [run.header.server for run in runs] == [1, 2]
    first, second = (run.closing["turns"] for run in runs if run.closing)
    order = sorted([*((at, "A") for at, _ in first), *((at, "B") for at, _ in second)])
    assert "".join(side for _, side in order) == "ABBAABBA"
    assert read_run(tmp_path / "new.jsonl").closing == runs[0].closing


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (stall, "engine 2 answered none of 4 requests: stalled: nothing arrived for 1 s"),
        (
            expired,
            "engine 2 answered none of 4 requests: HTTP 401: .*the server wants a key, and none is",
        ),
    ],
)
def test_a_server_that_is_silent_or_locked_is_told_before_anything_is_measured(
    answer: Any, said: str, live: Live, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_rllm.session.live.drive", partial(drive, stall_s=1.0))
    monkeypatch.setattr(Probes, "snapshot", lambda _probes, _server: SAID)
    server.default = answer
    with pytest.raises(EngineError, match=said):
        live.prepare(ARMS[:1])


def test_a_key_that_expires_while_it_is_measured_says_nothing_against_the_engine(
    live: Live, server: ScriptedServer
) -> None:
    live.prepare(ARMS[:1])
    server.default = expired
    with pytest.raises(EngineError, match=r"engine 2: HTTP 401: .*wants a key") as caught:
        live.run(ARMS[0], Path("r.jsonl"), HEADER, Place())
    assert not isinstance(caught.value, EngineDied)


@pytest.mark.parametrize("label", LABELS)
def test_an_engine_that_does_not_start_is_told_and_nothing_is_measured(
    live: Live, pool: MockPool, label: str, tmp_path: Path
) -> None:
    pool.fails = label
    with pytest.raises(EngineError, match=f"{label} ended: out of memory"):
        live.prepare(ARMS)
    for one in ARMS:
        with pytest.raises(KeyError):
            live.run(one, Path("r.jsonl"), HEADER, Place())
    assert not (tmp_path / "r.jsonl").exists()


def test_a_run_is_of_its_arms_engine_and_the_record_says_so(live: Live, tmp_path: Path) -> None:
    assert live.has(Path("any"))
    live.prepare(ARMS)
    for number, one in enumerate(ARMS, 1):
        path = Path(f"{one.engine}.jsonl")
        made = live.run(one, path, HEADER, Place("block 3"))
        assert (made.header.engine, made.header.server) == (LABELS[number - 1], number)
        assert made.header.match["engine"] == "declaring"
        assert made.header.notes == HOLDS
        again = read_run(tmp_path / path)
        assert (again.header, again.samples) == (made.header, made.samples)
        assert [s.error for s in made.samples] == [None] * 4


def test_where_a_run_stands_in_its_comparison_is_told_and_not_recorded(
    live: Live, tmp_path: Path
) -> None:
    told: list[tuple[str, float | None]] = []
    live.say = lambda text, done=None: told.append((text, done))
    live.prepare(ARMS)
    live.run(ARMS[0], Path("r.jsonl"), HEADER, Place("f [c] block 3/4", done=0.5, share=0.125))
    assert told[-1] == ("f [c] block 3/4: reasoning, 4 of 4 answers", 0.625)
    first, *_ = (tmp_path / "r.jsonl").read_text().splitlines()
    assert "block 3" not in first
    assert not {"where", "progress", "place"} & json.loads(first).keys()


def test_a_mock_engine_says_so_in_what_baselines_are_matched_by(live: Live) -> None:
    mock = DeclaringEngine("some engine 7", Capabilities(is_mock=True))
    assert live.match(mock)["engine_version"] == "mock 1"
    assert live.match(ENGINES["new"])["engine_version"] == "1"


def test_how_a_pair_is_asked_and_started_is_part_of_what_baselines_are_matched_by(
    live: Live,
) -> None:
    """And says nothing where a pair is asked and started as any other."""
    roles = ("reasoning", "plain", "draft")
    usual = " ".join(PAIRS["tiny"].revision(role) for role in roles)
    assert live.match(ENGINES["new"])["models"] == usual
    live.pair = replace(PAIRS["tiny"], flags={"declaring": ("--x", "1"), "other": ("--y",)})
    assert live.match(ENGINES["new"])["models"] == f"{usual} --x 1"
    live.pair = replace(PAIRS["tiny"], requests={"plain": {"seed": 7}})
    reasoning, plain, draft = live.match(ENGINES["new"])["models"].split()
    assert (reasoning, draft) == (usual.split()[0], usual.split()[2])
    assert plain.startswith(f"{usual.split()[1]}+")


@pytest.mark.parametrize("engine", ["new", "old"])
def test_an_engine_that_dies_is_named_and_its_samples_are_kept(
    live: Live, pool: MockPool, server: ScriptedServer, tmp_path: Path, engine: str
) -> None:
    async def broken(reply: Reply) -> None:
        reply.head("500 Internal Server Error")
        reply.finish(None)

    live.prepare(ARMS)
    one = next(a for a in ARMS if a.engine == engine)
    dying = next(s for s in pool.servers if s.engine is ENGINES[engine])
    server.answers[one.prompts[0].text] = broken
    live.run(one, Path("lives.jsonl"), HEADER, Place())  # a request failed, the server lives
    dying.up = False
    with pytest.raises(EngineDied, match="died in the middle of a run") as caught:
        live.run(one, Path("dies.jsonl"), HEADER, Place())
    assert caught.value.engine == engine
    assert str(caught.value).startswith(ENGINES[engine].label)
    assert len(read_run(tmp_path / "dies.jsonl").samples) == 4


@pytest.mark.parametrize("engine", ["new", "old"])
def test_an_engine_that_dies_between_two_runs_is_named_too(
    anchored: Live, pool: MockPool, server: ScriptedServer, engine: str
) -> None:
    anchored.prepare(ARMS)
    one = next(a for a in ARMS if a.engine == engine)
    next(s for s in pool.servers if s.engine is ENGINES[engine]).up = False
    refuse(server, PROBE_TRIES)
    with pytest.raises(EngineDied, match="died between two runs") as caught:
        anchored.run(one, Path("r.jsonl"), HEADER, Place())
    assert caught.value.engine == engine


# ---- probes that are refused


def refuse(server: ScriptedServer, times: int) -> None:
    """Let the server refuse the next probes, as one that fails a share of its requests would."""
    left = [times]

    async def answer(reply: Reply) -> None:
        left[0] -= 1
        if left[0] < 0:
            reply.head()
            await reply.play(QUICK)
            reply.finish()
            return
        reply.head("500 Internal Server Error")
        reply.finish(None)

    server.answers[SIGNATURE_PROMPT] = answer


@pytest.mark.parametrize("refused", [1, PROBE_TRIES - 1])
def test_a_refused_probe_is_asked_again_and_the_record_notes_it(
    anchored: Live, server: ScriptedServer, tmp_path: Path, refused: int
) -> None:
    anchored.prepare(ARMS)
    refuse(server, refused)
    made = anchored.run(ARMS[0], Path("r.jsonl"), HEADER, Place())
    assert made.header.notes == {"failed_probes": refused} | HOLDS
    assert read_run(tmp_path / "r.jsonl").header.notes == {"failed_probes": refused} | HOLDS
    assert made.header.anchor_s is not None
    other = anchored.run(ARMS[1], Path("other.jsonl"), HEADER, Place())
    assert other.header.notes == HOLDS, "the other server refused none"


def test_a_server_answers_no_probe_where_a_load_that_is_no_engine_says_how_fast_the_machine_is(
    live: Live, server: ScriptedServer
) -> None:
    live.prepare(ARMS)
    refuse(server, PROBE_TRIES)
    made = live.run(ARMS[0], Path("r.jsonl"), HEADER, Place())
    assert made.header.anchor_s is None
    assert made.header.reference_s is not None
    assert made.header.notes == HOLDS


def test_a_probe_that_is_always_refused_is_an_error_of_one_sentence(
    anchored: Live, server: ScriptedServer, tmp_path: Path
) -> None:
    anchored.prepare(ARMS)
    refuse(server, PROBE_TRIES)
    with pytest.raises(EngineError) as caught:
        anchored.run(ARMS[0], Path("r.jsonl"), HEADER, Place())
    assert str(caught.value).splitlines()[0] == (
        f"engine 2 refused a probe 3 times: POST {server.url}/v1/chat/completions: "
        "HTTP 500 Internal Server Error"
    )
    assert not (tmp_path / "r.jsonl").exists()


# ---- what two engines' APIs say


def test_what_two_engines_say_differently_is_told_once(live: Live) -> None:
    assert live.changes("old", "new") == []
    for serving in (Serving(), Serving(kv_cache_dtype="fp8")):
        live.snapshots["old", serving] = SAID
        live.snapshots["new", serving] = replace(
            SAID, version="2", delta_fields=("delta.reasoning_content",)
        )
    live.snapshots["new", CACHING] = replace(SAID, template="served by one alone")
    assert live.changes("old", "new") == [
        "delta field renamed: delta.reasoning -> delta.reasoning_content"
    ]


# ---- records


ASKED = Header(arm="A", fingerprint="f", pair="tiny", blocks=2)


def written(path: Path, **changed: Any) -> Any:
    of = run(sample(), arm="A then", fingerprint="f", pair="tiny", blocks=2, **changed)
    record(path, of)
    return of


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_record_is_read_packed_or_not(tmp_path: Path, is_packed: bool) -> None:
    path = tmp_path / "w" / "00-A.jsonl"
    of = written(path)
    if is_packed:
        packed(path).write_bytes(lzma.compress(path.read_bytes()))
        path.unlink()
    source = Replay(tmp_path)
    assert source.has(Path("w/00-A.jsonl"))
    assert not source.has(Path("w/00-B.jsonl"))
    again = source.run(arm(), Path("w/00-A.jsonl"), ASKED, Place())
    assert (again.samples, again.closing) == (of.samples, of.closing)
    assert again.header == replace(of.header, arm="A"), "an arm has its present name"


@pytest.mark.parametrize(
    ("key", "other"), [("fingerprint", "else"), ("pair", "else"), ("blocks", 3)]
)
def test_a_record_of_something_else_is_refused(tmp_path: Path, key: str, other: Any) -> None:
    written(tmp_path / "r.jsonl")
    asked = replace(ASKED, **{key: other})
    match = rf"r\.jsonl: recorded with {key} .* asks for {other!r}"
    with pytest.raises(RecordError, match=match):
        Replay(tmp_path).run(arm(), Path("r.jsonl"), asked, Place())


def test_a_replay_starts_nothing(tmp_path: Path) -> None:
    Replay(tmp_path).prepare(ARMS, copy=1)
    assert list(tmp_path.iterdir()) == []
