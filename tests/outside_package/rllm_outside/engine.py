"""An engine: the shipped mock engine under another name, a little faster."""

from typing import ClassVar

from pytest_rllm.engines.base import Launch
from pytest_rllm.engines.mock.engine import MockEngine
from pytest_rllm.experiment.serving import Serving
from pytest_rllm.models import ModelPair


class OutsideMockEngine(MockEngine):
    """Runs no model."""

    name: ClassVar[str] = "outside-mock"
    label = "outside mock engine"

    def launch(self, serving: Serving, pair: ModelPair, port: int) -> Launch:
        launch = super().launch(serving, pair, port)
        pace = ["--seconds-per-token", "0.0002", "--first-token-s", "0.001"]
        return Launch([*launch.argv, *pace], launch.env)
