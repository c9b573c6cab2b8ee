"""Weights with fewer bits: which checkpoint is served, what is rounded, and what is refused."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.script_engine import HEALTHY, ScriptEngine
from doubles.synthetic import run, sample

from pytest_rllm.checkpoints import Checkpoint
from pytest_rllm.checkpoints.rounded import GROUP, MATRICES, bits_of, round_to, rounded, unpacked
from pytest_rllm.datasets.prompts import load
from pytest_rllm.engines import engine_named
from pytest_rllm.engines.base import DidNotStart, EngineError, Launch, Launcher, RefusesFormat
from pytest_rllm.engines.capabilities import Capabilities
from pytest_rllm.engines.pool import Pool
from pytest_rllm.engines.server import refusal
from pytest_rllm.experiment.arm import Arm
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.experiment.workloads import Sampling, closed
from pytest_rllm.metrics import ACCURACY, CHANGED_NUMERICS, KV_ROOM, SANITY
from pytest_rllm.models import CHECKPOINTS, PAIRS, ModelPair, PairFileError, pair_named
from pytest_rllm.plugin.model_params import kv_dtypes
from pytest_rllm.records.run import Run
from pytest_rllm.session.formats import formats_tried
from pytest_rllm.verdicts.claims import Claim, higher, not_lower, pct, pp
from pytest_rllm.verdicts.judge import judge
from pytest_rllm.verdicts.validity import check

TINY = PAIRS["tiny"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLLM_CACHE", str(tmp_path / "cache"))


# ---- rounding


@pytest.mark.parametrize("bits", range(2, 9))
def test_a_group_of_weights_takes_so_many_values_and_each_is_the_nearest(bits: int) -> None:
    weights = np.random.default_rng(bits).normal(size=(3, 2 * GROUP)).astype(np.float32)
    near = round_to(weights, bits)
    for group, of in zip(near.reshape(6, GROUP), weights.reshape(6, GROUP), strict=True):
        values = np.linspace(of.min(), of.max(), 2**bits)
        assert len(set(group.tolist())) <= 2**bits
        nearest = np.abs(of[:, None] - values).min(axis=1)
        assert np.allclose(np.abs(group - of), nearest, atol=1e-6)


def test_equal_weights_and_rows_of_another_length_are_rounded_too() -> None:
    assert (round_to(np.full((2, 96), 0.3, np.float32), 4) == np.float32(0.3)).all()


def test_a_rounded_checkpoint_differs_in_its_matrices_and_nowhere_else() -> None:
    folder = Path(TINY.reasoning)
    made = rounded(folder, 3, "digest")
    own, other = Checkpoint(folder), Checkpoint(made)
    assert own.stored.keys() == other.stored.keys()
    changed = {name for name in own.stored if not np.array_equal(own.bits(name), other.bits(name))}
    assert changed == {name for name in own.stored if name.endswith(MATRICES)}
    assert len(changed) == 7 * own.config["num_hidden_layers"]
    one = other.tensor("model.layers.0.mlp.up_proj.weight").reshape(-1, GROUP)
    assert max(len(set(group.tolist())) for group in one) == 2**3
    assert (made / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert rounded(folder, 3, "digest") == made


def test_names_of_rounded_weights() -> None:
    assert [bits_of(f"rounded-{n}") for n in (1, 2, 8, 9)] == [None, 2, 8, None]
    assert bits_of("gptq-int4") is None


# ---- checkpoints in an archive


def test_the_bundled_pair_has_every_kind_and_its_archive_is_unpacked_once() -> None:
    assert set(TINY.quantized) == set(CHECKPOINTS)
    folders = {kind: TINY.weights("reasoning", kind) for kind in CHECKPOINTS}
    for kind, (folder, left) in folders.items():
        assert left is None
        told = json.loads((Path(folder) / "config.json").read_text())
        assert told["quantization_config"]["quant_method"], kind
        assert (Path(folder) / "chat_template.jinja").is_file()
    assert TINY.weights("plain", "gptq-int4") != folders["gptq-int4"]
    before = (Path(folders["awq-int4"][0]) / "config.json").stat().st_mtime_ns
    assert TINY.weights("reasoning", "awq-int4") == folders["awq-int4"]
    assert (Path(folders["awq-int4"][0]) / "config.json").stat().st_mtime_ns == before


def test_quantised_weights_take_less_room_and_another_revision() -> None:
    own = sum(f.stat().st_size for f in Path(TINY.reasoning).glob("*.safetensors"))
    for kind in CHECKPOINTS:
        folder = Path(TINY.weights("reasoning", kind)[0])
        assert sum(f.stat().st_size for f in folder.glob("*.safetensors")) < 0.6 * own
    revisions = {TINY.revision("reasoning", quantization=kind) for kind in (None, *CHECKPOINTS)}
    assert len(revisions) == 1 + len(CHECKPOINTS)


def test_a_damaged_or_missing_archive_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar.xz"
    broken.write_bytes(b"\xfd7zXZ\x00 cut off")
    with pytest.raises(ValueError, match=r"broken\.tar\.xz is damaged .*: fetch it anew"):
        unpacked(f"{broken}#one")
    with pytest.raises(ValueError, match="there is no archive"):
        unpacked(f"{tmp_path}/none.tar.xz#one")
    good = tmp_path / "good.tar.xz"
    with tarfile.open(good, "w:xz") as archive:
        archive.add(TINY.draft or "", "one")
    with pytest.raises(ValueError, match="holds no checkpoint 'two'; there are one"):
        unpacked(f"{good}#two")
    assert (Path(unpacked(f"{good}#one")) / "config.json").is_file()


# ---- pairs


def test_a_pair_without_such_a_checkpoint_is_skipped_with_the_reason() -> None:
    bare = replace(TINY, quantized={})
    serving = Serving(quantization="gptq-int4")
    why = refusal(engine_named("mock"), serving, bare)
    assert why == (
        "the pair 'tiny' has no checkpoint of its reasoning model with gptq-int4 weights: name one "
        "in its TOML file, [quantized.gptq-int4]"
    )
    assert refusal(engine_named("mock"), serving, TINY) is None
    hub = PAIRS["r1-distill-qwen-14b"]
    assert refusal(engine_named("mock"), serving, hub) is None
    why = refusal(engine_named("mock"), Serving(quantization="rounded-4"), hub)
    assert why is not None
    assert "are made of a folder with a checkpoint" in why


def test_an_engine_that_serves_no_such_checkpoints_still_serves_rounded_ones() -> None:
    engine = ScriptEngine(HEALTHY)
    why = refusal(engine, Serving(quantization="gptq-int4"), TINY)
    assert why == (
        "the engine 'script' cannot serve the checkpoint with gptq-int4 weights of the pair 'tiny'"
    )
    assert refusal(engine, Serving(quantization="rounded-4"), TINY) is None
    why = refusal(engine, Serving(quantization="awq"), TINY)
    assert why == "the engine 'script' cannot serve awq weights"


def test_a_toml_file_names_quantised_checkpoints(tmp_path: Path) -> None:
    for name in ("thinker", "int4", "plain-int4"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    text = """
        reasoning = "thinker"
        plain = "org/plain"
        context_length = 2048
        tiers.easy.dataset = "bundled-easy"
        budgets = { short = 64, enough = 512, generous = 1024, fixed_length = 128 }
        [quantized]
        awq-int4 = "org/thinker-awq"
        [quantized.gptq-int4]
        reasoning = "./int4"
        plain = "plain-int4"
    """
    file = tmp_path / "mine.toml"
    file.write_text(text)
    pair = pair_named(str(file))
    assert pair.weights("reasoning", "gptq-int4") == (str(tmp_path / "int4"), None)
    assert pair.weights("plain", "gptq-int4") == (str(tmp_path / "plain-int4"), None)
    assert pair.weights("reasoning", "awq-int4") == ("org/thinker-awq", None)
    assert pair.weights("reasoning", "fp8") == (str(tmp_path / "thinker"), "fp8")
    assert pair.why_not("awq-int4", "plain")
    for wrong, said in (
        ('awq-int4 = "./nowhere"', "does not exist"),
        ('rounded-4 = "int4"', "is made from the pair's own checkpoints"),
        ("awq-int4 = 4", "expected a table"),
        ('awq-int4 = { draft = "int4" }', "unknown key 'draft'"),
    ):
        file.write_text(text.replace('awq-int4 = "org/thinker-awq"', wrong))
        with pytest.raises(PairFileError, match=said):
            pair_named(str(file))


def test_engines_are_given_the_checkpoint_and_no_flag() -> None:
    vllm = pytest.importorskip("pytest_rllm.engines.vllm").VllmEngine()
    argv = list(vllm.launch(Serving(quantization="awq-int4"), TINY, 1).argv)
    assert argv[argv.index("--model") + 1] == TINY.weights("reasoning", "awq-int4")[0]
    assert "--quantization" not in argv
    argv = list(vllm.launch(Serving(quantization="compressed-tensors"), TINY, 1).argv)
    assert argv[argv.index("--model") + 1] == TINY.reasoning
    assert argv[argv.index("--quantization") + 1] == "compressed-tensors"
    assert "fp8_e5m2" in vllm.capabilities.kv_cache_dtypes
    assert "auto" not in vllm.capabilities.kv_cache_dtypes
    why = refusal(vllm, Serving(quantization="Q8_0"), TINY)
    assert why is not None
    assert why.startswith(f"{vllm.label} has no weights of 'Q8_0': there are awq, ")


# ---- formats that an engine refuses when it starts


class Picky(ScriptEngine):
    """Starts without formats only."""

    starts = 0

    @property
    def declared(self) -> Capabilities:
        return Capabilities(kv_cache_dtype=True, quantization=True)

    def launch(self, serving: Serving, pair: ModelPair, port: int) -> Launch:
        self.starts += 1
        asked = serving.quantization or serving.kv_cache_dtype
        script = f"raise ValueError('no kernel for {asked}')" if asked else self.script
        return Launch([*super().launch(serving, pair, port).argv[:2], script, str(port)])


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    monkeypatch.chdir(tmp_path)
    with Pool(tmp_path, start_s=30) as made:
        yield made


def test_a_format_that_an_engine_does_not_start_with_is_told_in_its_own_words(pool: Pool) -> None:
    engine, asked = Picky(HEALTHY), Serving(kv_cache_dtype="odd")
    with pytest.raises(DidNotStart) as failed:
        pool.serve(engine, asked, TINY)
    with pytest.raises(RefusesFormat) as refused:
        pool.try_without_formats(engine, asked, TINY, failed.value)
    assert str(refused.value) == (
        "script 1 does not start 'reasoning, odd KV', and starts 'reasoning': "
        "ValueError: no kernel for odd"
    )
    assert engine.starts == 3


def test_an_engine_that_does_not_start_at_all_refuses_no_format(pool: Pool) -> None:
    broken = Picky("raise RuntimeError('broken')")
    error = DidNotStart("it ended", "")
    with pytest.raises(DidNotStart, match="RuntimeError: broken"):
        pool.try_without_formats(broken, Serving(quantization="odd"), TINY, error)
    pool.try_without_formats(broken, Serving(prefix_caching=True), TINY, error)
    assert broken.starts == 1


class Mute:
    """A pool whose servers all start, and probes that only servers without formats answer."""

    def __init__(self, *mute: str) -> None:
        self.mute, self.asked = mute, list[str]()

    def serve(self, _engine: Any, serving: Serving, _pair: ModelPair) -> Serving:
        return serving

    def signature(self, served: Serving, _engine: str) -> None:
        self.asked.append(str(served))
        if str(served) in self.mute:
            raise EngineError(f"{served} was silent\nits last words")


@pytest.mark.parametrize(
    ("mute", "refused"),
    [
        (("reasoning, odd KV",), True),
        (("reasoning, odd KV", "reasoning"), False),  # the engine is broken
        ((), False),  # it answers now: a passing trouble stays an error
    ],
)
def test_a_server_that_starts_and_does_not_answer_is_tried_without_its_format(
    mute: tuple[str, ...], *, refused: bool
) -> None:
    double: Any = Mute(*mute)
    prompts = load("bundled-easy")[:1]
    arms = [
        Arm(Serving(kv_cache_dtype=kind), prompts, closed(1), Sampling(8)) for kind in ("odd", None)
    ]
    wanted = [(Picky(HEALTHY), arm) for arm in arms]
    with pytest.raises(EngineError) as told, formats_tried(double, double, TINY, wanted):
        raise EngineError("silent at first")
    assert isinstance(told.value, RefusesFormat) == refused
    if refused:
        assert str(told.value) == (
            "script 1 starts 'reasoning, odd KV' and does not answer, and answers 'reasoning': "
            "reasoning, odd KV was silent"
        )


# ---- whether a format is really on, as claims

REALLY_ON = (
    higher(KV_ROOM, by=pct(50)),
    not_lower(CHANGED_NUMERICS, by_more_than=pp(50)),
    not_lower(SANITY, by_more_than=pp(30)),
)


def served(
    room: float, signature: tuple[float, ...], kind: str | None = None, answer: str = r"\boxed{7}"
) -> Run:
    return run(
        *(sample(f"q{i}", answer) for i in range(24)),
        arm="A" if kind else "B",
        serving=Serving(kv_cache_dtype=kind),
        signature=signature,
        series={"kv_capacity_tokens": [room, room]},
    )


BASE = served(1000, (-0.5, -0.25, -1.0, -0.125))


@pytest.mark.parametrize(
    ("fresh", "verdicts"),
    [
        (served(1880, (-0.52, -0.24, -1.1, -0.125), "q8"), ("holds", "holds", "holds")),
        (served(1000, BASE.header.signature, "ignored"), ("refuted", "refuted", "holds")),
        (served(2000, (-9.0, -8.0, -0.9, -7.0), "far-off", "?"), ("holds", "holds", "refuted")),
        (served(2000, (-0.1, -0.2, -0.3, -0.1), "broken", "?"), ("holds", "holds", "refuted")),
    ],
    ids=["on", "ignored", "far off", "sure of what is wrong"],
)
def test_a_type_that_is_ignored_or_broken_is_refuted_and_costs_other_claims(
    fresh: Run, verdicts: tuple[str, ...]
) -> None:
    """What tells whether a format is on is judged, and answers and times are not, as long as it is
    not on."""
    blocks = [(fresh, BASE)] * 2
    found = check(blocks, [*REALLY_ON, not_lower(ACCURACY, by_more_than=pp(10))])
    costs = {slug for reason in found.reasons for slug in reason.claims}
    seen = verdicts[:2] == ("refuted", "refuted") or fresh.header.signature[0] < -2
    assert costs == ({"accuracy-not-lower-10pp"} if seen else set())
    assert tuple(judge(c, blocks, ("A", "B")).verdict for c in REALLY_ON) == verdicts


def test_what_a_server_is_has_no_sampling_error() -> None:
    fresh = served(1880, BASE.header.signature, "q8")
    told = judge(REALLY_ON[0], [(fresh, BASE)] * 2, ("A", "B"))
    assert told.low == told.high == told.estimate
    assert told.levels == (1880, 1000)
    other = served(1200, BASE.header.signature, "q8")
    spread = judge(REALLY_ON[0], [(fresh, BASE), (other, BASE)], ("A", "B"))
    assert spread.verdict == "inconclusive"  # two servers that disagree


@pytest.mark.parametrize("claim", REALLY_ON[:2], ids=str)
def test_what_an_engine_does_not_tell_cannot_be_judged(claim: Claim) -> None:
    silent = run(sample(), serving=Serving(kv_cache_dtype="q8"), signature=())
    told = judge(claim, [(silent, BASE)] * 2, ("A", "B"))
    assert told.verdict == "invalid"
    assert re.search("was not recorded|told no log probabilities", told.why or "")


def test_each_type_that_an_engine_offers_is_a_case_and_none_is_a_skip() -> None:
    assert [case.id for case in kv_dtypes(("fp8", "q4_0"))] == ["fp8", "q4_0"]
    (none,) = kv_dtypes(())
    assert none.marks[0].name == "skip"


def quantised(kind: str, signature: tuple[float, ...], gib: float | None = None) -> Run:
    notes = {} if gib is None else {"weights_gib": gib}
    samples = (sample(f"q{i}") for i in range(4))
    return run(*samples, serving=Serving(quantization=kind), signature=signature, notes=notes)


@pytest.mark.parametrize(
    ("kind", "moved", "gib", "reason"),
    [
        ("awq-int4", 0.1, 5.2, None),
        ("awq-int4", 0.1, None, None),
        ("awq-int4", 0.1, 14.2, "the weights take 14.2 GiB against 14.3 GiB"),
        ("awq-int4", 0.0, 5.2, "log probabilities are bit for bit the same"),
        ("awq-int4", 4.5, 5.2, "quantization broke the model"),
        ("rounded-2", 4.5, 14.3, None),
        ("rounded-8", 0.0, 14.3, "log probabilities are bit for bit the same"),
    ],
)
def test_quantised_weights_show_in_numerics_and_memory(
    kind: str, moved: float, gib: float | None, reason: str | None
) -> None:
    """Weights that were rounded before they were served may move numerics as far as they do."""
    base = run(*(sample(f"q{i}") for i in range(4)), arm="B", notes={"weights_gib": 14.3})
    own = base.header.signature
    fresh = quantised(kind, tuple(value - moved for value in own), gib)
    claims = [not_lower(ACCURACY, by_more_than=pp(10))]
    told = [str(one) for one in check([(fresh, base)], claims).reasons]
    assert len(told) == (reason is not None)
    assert reason is None or reason in told[0]


def test_vllm_tells_the_memory_of_weights_where_its_log_does() -> None:
    vllm = engine_named("vllm")
    assert isinstance(vllm, Launcher)
    log = "INFO [gpu_model_runner.py:5150] Model loading took 5.2 GiB memory and 1.234567 seconds"
    assert vllm.weights_gib(f"one\n{log}\n") == 5.2
    assert vllm.weights_gib("Loading weights took 0.02 seconds") is None
