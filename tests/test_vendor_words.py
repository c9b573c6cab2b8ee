"""The words of one vendor stand in that vendor's file alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pytest_rllm

ROOT = Path(pytest_rllm.__file__).parent
VENDORS = {
    "engines/vllm.py": (
        r"reasoning.parser|continuous_usage_stats|kv.cache.memory|block.size|served.model.name"
        r"|/render|prompt_token_ids|return_token_ids|enable.scale.out|enforce.eager|max-model-len"
        r"|gpu.memory.utilization|api_server|VLLM_|\bvllm:[a-z]|ignore_eos"
    ),
    "engines/llamacpp": (
        r"llamacpp:[a-z]|cache_prompt|/slots|/props|spec.type|n_prompt_tokens|LLAMA_ARG_|ctx.size"
        r"|timings_per_token|llama.server"
    ),
    "engines/dialects.py": (
        r"\btgi_[a-z]|\btrtllm_[a-z]|\bdynamo_[a-z]|\blmdeploy:[a-z]|/prometheus/metrics|/api/version"
    ),
    "engines/sglang": (
        r"\bsglang:[a-z]|server_info|flush_cache|disable.radix.cache|max.total.tokens|sgl_kernel"
        r"|SGLANG_|sglext|torch_native"
    ),
    "engines/openai.py": r"logprobs?\b|include_usage",
    "engines/mock": r"\bmock:|\"fixed_length\"",
}
"""Words of a vendor, by its file or folder: flags, fields of requests and answers, metrics."""
EXEMPT = {
    # The vendor's own second file: what its log says.
    ("engines/vllm.py", "engines/vllm_log.py"): r".*",
    # OpenAI's and vLLM's field of a request, which llama.cpp took over.
    ("engines/vllm.py", "engines/llamacpp"): r"ignore_eos",
    ("engines/openai.py", "engines/llamacpp"): r"logprobs",
    # What ``Sampling.fixed_length`` was called in the first records and fingerprints.
    ("engines/vllm.py", "experiment/arm.py"): r"ignore_eos",
    ("engines/vllm.py", "records/header.py"): r"ignore_eos",
    # The field of ``Sampling``, which the mock's requests are called after.
    ("engines/mock", "experiment/arm.py"): r".*",
    ("engines/mock", "records/header.py"): r".*",
    # A budget of a pair, which the field of ``Sampling`` is filled with.
    ("engines/mock", "models/pair_file.py"): r".*",
    # SGLang took these from vLLM: a field each of a request, and names of flags.
    ("engines/vllm.py", "engines/sglang"): (
        r"reasoning.parser|continuous_usage_stats|ignore_eos|served.model.name"
    ),
    # It imitates a vLLM server, which is what clients are compared on.
    ("engines/vllm.py", "loadgen/reference_server"): r".*",
    # Evidence for a threshold: names that releases did rename.
    ("engines/vllm.py", "engines/api_diff.py"): r"vllm:[a-z]",
    # The field that our clients ask usage with; read and written by the servers of ours.
    ("engines/openai.py", "loadgen/reference_server"): r".*",
    # What the client asks our own server when its capacity is measured.
    ("engines/openai.py", "loadgen/fidelity.py"): r"include_usage",
    # The mock speaks OpenAI's API, and so it has its words.
    ("engines/openai.py", "engines/mock"): r".*",
    # A file format of the vendor's benchmark, which is this importer's own vendor.
    ("engines/vllm.py", "importers/vllm_bench.py"): r".*",
}


def within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def found(vendor: str, path: str, text: str) -> list[str]:
    """Lines with a word of the vendor's that must not be there."""
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        for word in re.findall(VENDORS[vendor], line):
            excused = [
                pattern
                for (whose, place), pattern in EXEMPT.items()
                if whose == vendor and within(path, place) and re.fullmatch(pattern, word)
            ]
            if not excused:
                lines.append(f"{path}:{number}: {word}: {line.strip()}")
    return lines


@pytest.mark.parametrize("vendor", VENDORS)
def test_words_of_a_vendor_are_in_its_file_alone(vendor: str) -> None:
    paths = {str(path.relative_to(ROOT)): path for path in ROOT.rglob("*.py")}
    assert [path for path in paths if within(path, vendor)]
    stray = [
        line
        for path, file in paths.items()
        if not within(path, vendor)
        for line in found(vendor, path, file.read_text(encoding="utf-8"))
    ]
    assert not stray, "\n".join(["words of a vendor outside of its file:", *stray])


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_vendors_own_file_has_its_words(vendor: str) -> None:
    """Else nothing is looked for."""
    place = ROOT / vendor
    files = [place] if place.is_file() else list(place.glob("*.py"))
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    for word in VENDORS[vendor].split("|"):
        assert re.search(word, text), f"{vendor} does not have {word!r}"


@pytest.mark.parametrize(
    ("line", "stray"),
    [
        ('options["--reasoning-parser"] = pair.reasoning_parser', 2),
        ('body["ignore_eos"] = sampling.fixed_length', 1),
        ("Sampling(9, temperature=0, fixed_length=True)", 0),
        ('name = "vllm:kv_cache_usage_perc"', 1),
        ('{"vllm": "pytest_rllm.engines.vllm:VllmEngine"}', 0),
        ("vllm==0.31.0", 0),
    ],
)
def test_what_is_stray(line: str, stray: int) -> None:
    assert len(found("engines/vllm.py", "models/__init__.py", line)) == stray
