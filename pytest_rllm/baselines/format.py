"""The text of a baseline file: easy to review in a diff, and strict when it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .case import SCHEMA, Case

RESTORE = "fix the file, or restore it with `git checkout`"


class BaselineError(ValueError):
    """A baseline file cannot be used; the message says where it is broken and what to do."""


def read(path: Path, finding: str, schema: int = SCHEMA) -> dict[str, Case]:
    """Cases of a file by id; empty when there is no file.

    Args:
        path: of the file.
        finding: that the file must be about.
        schema: that is stored at this place.

    Raises:
        BaselineError: broken, of another finding, or of another schema.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content["schema"]
        if found > SCHEMA:
            raise BaselineError(
                f"{path}: schema {found}, this version reads up to {SCHEMA}: update pytest-rllm"
            )
        if found != schema and {found, schema} != {2, SCHEMA}:
            raise BaselineError(
                f"{path}: schema {found} in the place of schema {schema}; schema 1 is stored at "
                "<hardware>/<finding>.json, later ones at <hardware>/<engine>/<finding>.json: move "
                "the file there (--rllm-baseline=update converts schema 1)"
            )
        if content["finding"] != finding:
            raise BaselineError(
                f"{path}: holds the finding {content['finding']!r}; rename the file, or restore it "
                "with `git checkout`"
            )
        keys = 1 if found == 1 else SCHEMA  # of schema 2 no key is another one today
        return {name: Case(**case, schema=keys) for name, case in content["cases"].items()}
    except BaselineError:
        raise
    except json.JSONDecodeError as error:
        raise BaselineError(
            f"{path}:{error.lineno}: broken JSON ({error.msg}); {RESTORE}"
        ) from error
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise BaselineError(
            f"{path}: not a baseline ({type(error).__name__}: {error}); {RESTORE}"
        ) from error


def dump(finding: str, cases: Mapping[str, Case], schema: int = SCHEMA) -> str:
    """The file's text: schema first, keys sorted, one line per entry, four significant digits."""
    lines = ["{", f' "schema": {schema},', f' "finding": {json.dumps(finding)},', ' "cases": {']
    for i, (name, case) in enumerate(sorted(cases.items())):
        lines.append(f"  {json.dumps(name)}: {{")
        parts: list[tuple[str, Mapping[str, Any]]] = [
            ("effects", case.effects),
            *([("labels", case.labels)] if schema > 1 else []),
            ("levels", case.levels),
            ("match", case.match),
            *([("reference_s", case.reference_s)] if schema > 1 else []),
        ]
        lines.append(f'   "deviations": {json.dumps(sorted(case.deviations), ensure_ascii=False)},')
        if schema > 1:
            lines.append(f'   "machine": {json.dumps(case.machine)},')
        for j, (title, entries) in enumerate(parts):
            lines.append(f'   "{title}": {{')
            lines += [
                f"    {json.dumps(key, ensure_ascii=False)}: "
                + json.dumps(value, ensure_ascii=False)
                + ("," if k < len(entries) - 1 else "")
                for k, (key, value) in enumerate(sorted(entries.items()))
            ]
            lines.append("   }" + ("," if j < len(parts) - 1 else ""))
        lines.append("  }" + ("," if i < len(cases) - 1 else ""))
    return "\n".join([*lines, " }", "}"]) + "\n"
