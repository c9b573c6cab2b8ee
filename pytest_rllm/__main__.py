"""``python -m pytest_rllm COMMAND``: what needs no pytest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "conformance": "pytest_rllm.reports.engine_table",
    "explain": "pytest_rllm.explain",
    "findings": "pytest_rllm.reports.findings_table",
    "import": "pytest_rllm.importers.command",
    "keys": "pytest_rllm.checkpoints.command",
}
"""Name of a command to its module: ``HELP``, ``arguments(parser)`` and ``run(given) -> status``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name; returns the exit status."""
    parser = argparse.ArgumentParser("python -m pytest_rllm")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, module_name in COMMANDS.items():
        module = import_module(module_name)
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.arguments(command)
        command.set_defaults(run=module.run)
    given = parser.parse_args(argv)
    status: int = given.run(given)
    return status


if __name__ == "__main__":
    sys.exit(main())
