"""STAND-IN, for tests only: names torchvision's compiled operators before torchvision is imported.

PyPI's torchvision is built for CUDA. Beside a CPU torch its operators do not load, and its import
fails because it describes operators that are not there. They are for images: text models call none.
A ``.pth`` file imports this module at the start of the interpreter of ``make sglang-cpu``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class DefineOperatorsFirst(MetaPathFinder):
    """Finds no module: when torchvision is looked for, it defines the operators, once."""

    library: object = None
    """Keeps the operators: they are gone when it is."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "torchvision" and self.library is None:
            import torch

            self.library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in OPERATORS:
                self.library.define(operator)
        return None


sys.meta_path.insert(0, DefineOperatorsFirst())
