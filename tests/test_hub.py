"""Models of the hub, with the hub's own client: its cache in a folder, and a server of this machine
that answers as the hub does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.mock_hub import mock_hub_server
from huggingface_hub import constants

from pytest_rllm.checkpoints.hub import Hub, NotToBeHad, is_id

CONFIG = b'{"vocab_size": 8}'
WEIGHTS = b"w" * 50_000
MODELS = {
    "org/safe": {
        "config.json": CONFIG,
        "model.safetensors": WEIGHTS,
        "pytorch_model.bin": WEIGHTS * 2,
        "original/consolidated.00.pth": WEIGHTS * 3,
    },
    "org/pickled": {"config.json": CONFIG, "pytorch_model.bin": WEIGHTS},
    "org/gated": {"config.json": CONFIG, "model.safetensors": WEIGHTS},
    "org/no-config": {"model.gguf": WEIGHTS},
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "hub"


@pytest.fixture
def asked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Paths that the mock hub was asked."""
    with mock_hub_server(MODELS, gated=frozenset({"org/gated"})) as (url, asked):
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield asked


def cached(cache: Path, model: str, *names: str) -> Path:
    """A model as the hub's cache has it, with empty files of these names."""
    there = cache / f"models--{model.replace('/', '--')}"
    (there / "refs").mkdir(parents=True)
    (there / "refs" / "main").write_text("a" * 40)
    folder = there / "snapshots" / ("a" * 40)
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("org/model", True),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", True),
        ("./model", False),
        ("~/model", False),
        ("/org/model", False),
        ("org/model.gguf", False),
        ("a/b.tar.xz#folder", False),
        ("model", False),
    ],
)
def test_a_model_id_is_no_path(model: str, named: bool) -> None:
    assert is_id(model) is named


def test_a_folder_is_no_model_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("org/model").mkdir(parents=True)
    assert not is_id("org/model")


@pytest.mark.parametrize(
    ("names", "whole"),
    [
        (["config.json", "model.safetensors"], True),
        (["config.json", "pytorch_model.bin"], True),
        (["config.json"], False),
        (["model.safetensors"], False),
        (["config.json", "model-00001-of-00002.safetensors"], False),
        (
            [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)] + ["config.json"],
            True,
        ),
    ],
)
def test_a_model_is_here_with_all_files_of_its_weights(
    cache: Path, names: list[str], whole: bool
) -> None:
    cached(cache, "org/safe", *names)
    assert Hub().holds("org/safe") is whole
    assert not Hub().holds("org/other")


def test_a_link_that_leads_nowhere_is_no_file(cache: Path) -> None:
    folder = cached(cache, "org/safe", "config.json")
    (folder / "model.safetensors").symlink_to("../../blobs/gone")
    assert not Hub().holds("org/safe")


def test_free_space_is_told_of_a_cache_that_is_not_made_yet(cache: Path) -> None:
    assert not cache.exists()
    assert Hub().free_bytes() > 0


@pytest.mark.parametrize("model", ["org/safe", "org/pickled"])
def test_only_the_weights_that_engines_load_are_downloaded(
    cache: Path, asked: list[str], model: str
) -> None:
    hub, told = Hub(), list[float]()
    assert hub.missing_bytes(model) == len(WEIGHTS), "its configuration is here by then"
    assert not hub.holds(model)
    hub.fetch(model, told.append)
    assert hub.holds(model)
    assert told[-1] == len(WEIGHTS)
    assert told == sorted(told)
    there = {path.name for path in cache.rglob("snapshots/*/*")}
    (weights,) = there - {"config.json"}
    assert weights in ("model.safetensors", "pytorch_model.bin")
    assert hub.missing_bytes(model) == 0


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("org/gated", "org/gated is gated: accept its licence at https://huggingface.co/org/gated"),
        ("org/mispelt", "there is no model org/mispelt on the Hugging Face hub, or it is private"),
        ("org/no-config", "org/no-config on the Hugging Face hub has no config.json: name a check"),
    ],
)
def test_what_cannot_be_had_is_told_with_what_to_do(
    asked: list[str], model: str, told: str
) -> None:
    with pytest.raises(NotToBeHad, match=told):
        Hub().missing_bytes(model)


def test_nobody_is_asked_where_that_is_forbidden(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(NotToBeHad, match="HF_HUB_OFFLINE forbids to download it: unset that"):
        Hub().missing_bytes("org/safe")
    assert asked == []


def test_a_hub_that_does_not_answer_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mock_hub_server({}) as (url, _):
        gone = url
    monkeypatch.setattr(constants, "ENDPOINT", gone)
    with pytest.raises(NotToBeHad, match=r"could not be downloaded .*look whether this machine"):
        Hub().missing_bytes("org/safe")
