"""Serve llama.cpp's own HTTP API from the package ``xllamacpp``: ``python serve.py -m FILE ...``

It is run by the interpreter that has the package, which may have nothing else: only the standard
library and ``xllamacpp`` are imported here. It takes the flags of ``llama-server``, those in the
table below, and sets the field of ``xllamacpp``'s parameters that each stands for. A flag that is
not in the table, or that this version of the package has no field for, is refused.

``python serve.py --tell`` prints as JSON what the package can do, and starts nothing.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from typing import Any


def _enum(kind: str, prefix: str) -> Callable[[Any, str], Any]:
    """Reads a member of an enumeration of the package's: ``q8_0`` is ``GGML_TYPE_Q8_0``."""

    def read(package: Any, text: str) -> Any:
        name = prefix + text.upper().replace("-", "_")
        members = getattr(package, kind)
        if not hasattr(members, name):
            known = sorted(m.name.removeprefix(prefix).lower() for m in members)
            raise ValueError(f"{text!r} is none of {', '.join(known)}")
        return getattr(members, name)

    return read


def _number(_package: Any, text: str) -> int:
    return int(text)


def _fraction(_package: Any, text: str) -> float:
    return float(text)


def _text(_package: Any, text: str) -> str:
    return text


def _set_of_texts(_package: Any, text: str) -> set[str]:
    return {text}


def _list_of_texts(_package: Any, text: str) -> list[str]:
    return text.split(",")


def _kinds(package: Any, text: str) -> list[Any]:
    return [SPECULATION(package, kind) for kind in text.split(",")]


SPECULATION = _enum("common_speculative_type", "COMMON_SPECULATIVE_TYPE_")
TYPE = _enum("ggml_type", "GGML_TYPE_")
FLASH = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}


def _flash(package: Any, text: str) -> Any:
    kind = _enum("llama_flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_")
    return kind(package, FLASH.get(text, text))


VALUES: dict[str, tuple[tuple[str, ...], Callable[[Any, str], Any]]] = {
    "--model": (("model.path",), _text),
    "--alias": (("model_alias",), _set_of_texts),
    "--host": (("hostnames",), _list_of_texts),
    "--port": (("port",), _number),
    "--threads": (
        (
            "cpuparams.n_threads",
            "cpuparams_batch.n_threads",
            "speculative.draft.cpuparams.n_threads",
        ),
        _number,
    ),
    "--threads-batch": (("cpuparams_batch.n_threads",), _number),
    "--threads-http": (("n_threads_http",), _number),
    "--ctx-size": (("n_ctx",), _number),
    "--batch-size": (("n_batch",), _number),
    "--ubatch-size": (("n_ubatch",), _number),
    "--parallel": (("n_parallel",), _number),
    "--n-gpu-layers": (("n_gpu_layers",), _number),
    "--flash-attn": (("flash_attn_type",), _flash),
    "--cache-type-k": (("cache_type_k",), TYPE),
    "--cache-type-v": (("cache_type_v",), TYPE),
    "--cache-ram": (("cache_ram_mib",), _number),
    "--cache-reuse": (("n_cache_reuse",), _number),
    "--slot-prompt-similarity": (("slot_prompt_similarity",), _fraction),
    "--reasoning-format": (
        ("reasoning_format",),
        _enum("common_reasoning_format", "COMMON_REASONING_FORMAT_"),
    ),
    "--chat-template": (("chat_template",), _text),
    "--spec-type": (("speculative.types",), _kinds),
    "--spec-draft-model": (("speculative.draft.mparams.path",), _text),
    "--spec-draft-n-max": (("speculative.draft.n_max",), _number),
    "--spec-draft-n-min": (("speculative.draft.n_min",), _number),
    "--spec-draft-p-min": (("speculative.draft.p_min",), _fraction),
    "--spec-ngram-simple-size-n": (("speculative.ngram_simple.size_n",), _number),
    "--spec-ngram-simple-size-m": (("speculative.ngram_simple.size_m",), _number),
    "--spec-ngram-simple-min-hits": (("speculative.ngram_simple.min_hits",), _number),
    "--seed": (("sampling.seed",), _number),
    "--temp": (("sampling.temp",), _fraction),
    "--top-k": (("sampling.top_k",), _number),
    "--top-p": (("sampling.top_p",), _fraction),
    "--min-p": (("sampling.min_p",), _fraction),
    "--verbosity": (("verbosity",), _number),
}
"""Flags of ``llama-server`` with a value, and the fields that they set."""
SWITCHES: dict[str, tuple[str, bool]] = {
    "--metrics": ("endpoint_metrics", True),
    "--slots": ("endpoint_slots", True),
    "--no-slots": ("endpoint_slots", False),
    "--props": ("endpoint_props", True),
    "--kv-unified": ("kv_unified", True),
    "--no-kv-unified": ("kv_unified", False),
    "--cache-prompt": ("cache_prompt", True),
    "--no-cache-prompt": ("cache_prompt", False),
    "--cache-idle-slots": ("cache_idle_slots", True),
    "--no-cache-idle-slots": ("cache_idle_slots", False),
    "--context-shift": ("ctx_shift", True),
    "--no-context-shift": ("ctx_shift", False),
    "--jinja": ("use_jinja", True),
    "--no-jinja": ("use_jinja", False),
    "--warmup": ("warmup", True),
    "--no-warmup": ("warmup", False),
    "--swa-full": ("swa_full", True),
}
"""Flags of ``llama-server`` that stand alone, and the field that they set."""
ONCE = {"hostnames": ("hostname", _text)}
"""Fields that had another name, and took another kind of value, in earlier versions."""
SHORT = {
    "-m": "--model",
    "-a": "--alias",
    "-t": "--threads",
    "-tb": "--threads-batch",
    "-c": "--ctx-size",
    "-b": "--batch-size",
    "-ub": "--ubatch-size",
    "-np": "--parallel",
    "-ngl": "--n-gpu-layers",
    "-fa": "--flash-attn",
    "-ctk": "--cache-type-k",
    "-ctv": "--cache-type-v",
    "-cram": "--cache-ram",
    "-sps": "--slot-prompt-similarity",
    "-md": "--spec-draft-model",
    "-kvu": "--kv-unified",
    "-no-kvu": "--no-kv-unified",
    "-s": "--seed",
    "-lv": "--verbosity",
}


def _version(package: Any) -> str:
    """Of the package; ``dev`` of a build that has none."""
    return str(getattr(package, "__version__", None) or "dev")


class Refused(Exception):
    """A flag that cannot be followed; the message says which one and why."""


def _holder(params: Any, path: str) -> tuple[Any, str]:
    """The object that has a field, and the field's name.

    Raises:
        AttributeError: this version of the package has no such field.
    """
    *within, name = path.split(".")
    for step in within:
        params = getattr(params, step)
    getattr(params, name)
    return params, name


def _has(params: Any, path: str) -> bool:
    try:
        _holder(params, path)
    except AttributeError:
        return False
    return True


def _known(params: Any, path: str) -> bool:
    """Whether there is a field, under this or its earlier name."""
    return _has(params, path) or (path in ONCE and _has(params, ONCE[path][0]))


def parameters(package: Any, argv: list[str]) -> Any:
    """The package's parameters for flags of ``llama-server``.

    Raises:
        Refused: a flag is not known here, has no value or a wrong one, or is new to the package.
    """
    params = package.CommonParams()
    left = list(argv)
    paths: tuple[str, ...]
    while left:
        said = left.pop(0)
        flag = SHORT.get(said, said)
        if flag in SWITCHES:
            paths, value = (SWITCHES[flag][0],), SWITCHES[flag][1]
        elif flag in VALUES:
            if not left:
                raise Refused(f"the flag {said} needs a value")
            paths, read = VALUES[flag]
            if paths[0] in ONCE and not _has(params, paths[0]):
                paths, read = (ONCE[paths[0]][0],), ONCE[paths[0]][1]
            text = left.pop(0)
            try:
                value = read(package, text)
            except (ValueError, AttributeError) as error:
                raise Refused(f"the flag {said} {text}: {error}") from error
        else:
            known = ", ".join(sorted({*VALUES, *SWITCHES}))
            raise Refused(
                f"the flag {said} is not known to what starts xllamacpp: use a llama-server of "
                f"your own for it, or one of {known}"
            )
        _put(package, params, said, paths, value)
    return params


def _put(package: Any, params: Any, said: str, paths: tuple[str, ...], value: Any) -> None:
    there = [path for path in paths if _has(params, path)]
    if paths[0] not in there:
        raise Refused(
            f"xllamacpp {_version(package)} has no parameter {paths[0]} for the flag {said}: "
            "install a newer one"
        )
    for path in there:
        owner, name = _holder(params, path)
        setattr(owner, name, value)


def tell(package: Any) -> dict[str, Any]:
    """What the package can do: its version, its devices, and the flags that it has fields for."""
    params = package.CommonParams()
    flags = [flag for flag, (paths, _) in VALUES.items() if _known(params, paths[0])]
    flags += [flag for flag, (path, _) in SWITCHES.items() if _has(params, path)]
    kinds = getattr(package, "common_speculative_type", ())
    prefix = "COMMON_SPECULATIVE_TYPE_"
    return {
        "version": _version(package),
        "flags": flags,
        "speculation": [m.name.removeprefix(prefix).lower().replace("_", "-") for m in kinds],
        "types": [
            m.name.removeprefix("GGML_TYPE_").lower() for m in getattr(package, "ggml_type", ())
        ],
        "devices": [str(device["name"]) for device in package.get_device_info()],
    }


def main(argv: list[str]) -> int:
    """Serve until a signal ends the process; returns the exit status."""
    try:
        import xllamacpp
    except Exception as error:  # noqa: BLE001 - whatever keeps it from being imported is the answer
        print(f"xllamacpp does not import: {type(error).__name__}: {error}", file=sys.stderr)
        return 3
    if argv == ["--tell"]:
        print(json.dumps(tell(xllamacpp)))
        return 0
    try:
        params = parameters(xllamacpp, argv)
    except Refused as error:
        print(error, file=sys.stderr)
        return 2
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        print(f"llama.cpp did not start: {error}", file=sys.stderr)
        return 1
    print(f"listening on {server.listening_address}", flush=True)
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
