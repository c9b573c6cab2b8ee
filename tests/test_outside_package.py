"""Another package adds an engine, a report, a data set and a pair of models; nothing of ours knows.

The package is ``tests/outside_package``: it is built, installed into a folder and used by a pytest
of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent
FINDING = """
from pytest_rllm import ACCURACY, E2E, Arm, Sampling, Serving
from pytest_rllm import finding, not_higher, not_lower, pct, pp


@finding("The outside engine answers as right as the mock engine, and is no slower.", cite="a test")
def test_outside(compare, dataset, workload, model):
    def arm(engine):
        prompts = dataset("easy", n=64)
        return Arm(Serving(), prompts, workload.closed(8), Sampling(model.enough), engine=engine)

    compare(arm("outside-mock"), against=arm("mock")).shows(
        not_lower(ACCURACY, by_more_than=pp(20)),
        not_higher(E2E, by_more_than=pct(50)),
    )
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip installed the package."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "--target", str(folder)]
    done = subprocess.run(
        [*command, *options, str(HERE / "outside_package")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def findings(folder: Path, site: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A pytest on one finding, with the outside package on its path."""
    (folder / "test_outside.py").write_text(FINDING)
    path = os.pathsep.join((str(site), str(ROOT)))
    plugin = ["-p", "pytest_rllm.plugin", "-p", "no:cacheprovider", f"--rootdir={folder}"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", str(folder), *plugin, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "CI": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )


def test_an_outside_engine_report_data_set_and_pair_are_used_by_name(
    installed: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.txt"
    done = findings(
        tmp_path,
        installed,
        "--rllm-engine=mock",
        "--rllm-model=outside",
        f"--rllm-report=lines:{report}",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, *lines = report.read_text().splitlines()
    assert first == "decision none"
    # A busy machine takes more than the 8 blocks of the first look.
    assert [re.sub(r" \d+ blocks$", "", line) for line in lines] == [
        "outside [outside] 1/accuracy-not-lower-20pp holds",
        "outside [outside] 1/e2e-not-higher-50pct holds",
    ]


def test_without_the_package_its_names_are_unknown(tmp_path: Path) -> None:
    for option, message in (
        ("--rllm-model=outside", "unknown model pair 'outside'"),
        ("--rllm-engine=outside-mock", "unknown engine 'outside-mock'"),
        ("--rllm-report=lines:x", "unknown report 'lines'"),
    ):
        done = findings(tmp_path, tmp_path, option)
        assert done.returncode == pytest.ExitCode.USAGE_ERROR
        assert message in done.stderr + done.stdout
