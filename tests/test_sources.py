"""Two builds serve side by side, each its own arm; records are read packed or not."""

from __future__ import annotations

import lzma
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from doubles.arms import arm
from doubles.synthetic import record, run, sample

from pytest_rllm.engines.api_snapshot import Contract
from pytest_rllm.engines.base import EngineError
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.records.reader import packed
from pytest_rllm.records.run import RecordError, Run
from pytest_rllm.session.sources import Replay, SideBySide

SAID = Contract("vllm", "vllm", "1", "tiny: reasoning", (), ("delta.reasoning",), (), {}, "t")


@dataclass
class MockLive:
    """Starts nothing: waits until the other build starts, too, and notes what it was told."""

    together: threading.Barrier
    fails: Exception | None = None
    prepared: list[tuple[list[Arm], bool]] = field(default_factory=list)
    contracts: dict[str, Contract] = field(default_factory=dict)
    closed: bool = False

    @property
    def pool(self) -> MockLive:
        return self

    def close(self) -> None:
        self.closed = True

    def prepare(self, arms: Sequence[Arm], *, fresh: bool = False) -> None:
        self.together.wait(timeout=10)
        if self.fails:
            raise self.fails
        self.prepared.append((list(arms), fresh))

    def run(self, arm: Arm, path: Path, about: dict[str, Any]) -> Run:
        return run(sample(), arm=arm.build, **about)


@pytest.fixture
def lives() -> dict[str, MockLive]:
    together = threading.Barrier(2)
    return {"new": MockLive(together), "old": MockLive(together)}


@pytest.fixture
def both(lives: Any) -> SideBySide:
    return SideBySide(lives)


ARMS = [arm(build=build) for build in ("new", "old")]


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("order", [ARMS, ARMS[::-1]], ids=["as named", "turned"])
def test_builds_start_together_each_with_its_own_arm(
    both: SideBySide, lives: dict[str, MockLive], order: list[Arm], fresh: bool
) -> None:
    both.prepare(order, fresh=fresh)
    assert lives["new"].prepared == [([ARMS[0]], fresh)]
    assert lives["old"].prepared == [([ARMS[1]], fresh)]


@pytest.mark.parametrize("build", ["new", "old"])
def test_a_build_that_does_not_start_stops_both(
    both: SideBySide, lives: dict[str, MockLive], build: str
) -> None:
    lives[build].fails = EngineError("out of memory")
    with pytest.raises(EngineError, match="out of memory"):
        both.prepare(ARMS)
    assert all(live.closed for live in lives.values())


def test_a_run_is_of_its_arms_build(both: SideBySide) -> None:
    assert both.has(Path("any"))
    for one in ARMS:
        assert both.run(one, Path("p"), {"block": 3}).about["arm"] == one.build


def test_what_the_builds_say_differently_is_told_once(
    both: SideBySide, lives: dict[str, MockLive]
) -> None:
    assert both.changes() == []
    for serving in ("reasoning", "reasoning, fp8 KV"):
        lives["old"].contracts[serving] = SAID
        lives["new"].contracts[serving] = replace(
            SAID, version="2", delta_fields=("delta.reasoning_content",)
        )
    lives["new"].contracts["served by one alone"] = replace(SAID, template="u")
    assert both.changes() == ["delta field renamed: delta.reasoning -> delta.reasoning_content"]


# ---- records


ABOUT = {"fingerprint": "f", "pair": "tiny", "blocks": 2}


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_record_is_read_packed_or_not(tmp_path: Path, is_packed: bool) -> None:
    of = run(sample(), **ABOUT)
    path = tmp_path / "w" / "00-A.jsonl"
    record(path, of)
    if is_packed:
        packed(path).write_bytes(lzma.compress(path.read_bytes()))
        path.unlink()
    source = Replay(tmp_path)
    assert source.has(Path("w/00-A.jsonl"))
    assert not source.has(Path("w/00-B.jsonl"))
    again = source.run(arm(), Path("w/00-A.jsonl"), dict(ABOUT))
    assert (again.samples, again.closing) == (of.samples, of.closing)


@pytest.mark.parametrize("key", ABOUT)
def test_a_record_of_something_else_is_refused(tmp_path: Path, key: str) -> None:
    record(tmp_path / "r.jsonl", run(sample(), **ABOUT))
    asked = ABOUT | {key: "else"}
    with pytest.raises(RecordError, match=rf"r\.jsonl: recorded with {key} .* asks for 'else'"):
        Replay(tmp_path).run(arm(), Path("r.jsonl"), asked)
