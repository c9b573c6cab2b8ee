"""The pytest plugin. Nothing outside of this package imports pytest."""

from .fixtures import (
    compare,
    compare_builds,
    contract,
    dataset,
    engine,
    gpu,
    knee,
    measure,
    model,
    workload,
)
from .hooks import (
    pytest_addoption,
    pytest_collection_finish,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_generate_tests,
    pytest_report_teststatus,
    pytest_runtest_call,
    pytest_runtest_setup,
    pytest_sessionfinish,
    pytest_terminal_summary,
)

__all__ = [
    "compare",
    "compare_builds",
    "contract",
    "dataset",
    "engine",
    "gpu",
    "knee",
    "measure",
    "model",
    "pytest_addoption",
    "pytest_collection_finish",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_report_teststatus",
    "pytest_runtest_call",
    "pytest_runtest_setup",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "workload",
]
