"""Hypothesis for machines that are busy with something else: no deadline, few examples.

What in-process runs of pytest load is imported here, so that it is not loaded anew in each of them.
"""

import math_verify  # noqa: F401
import scipy.stats  # noqa: F401
from hypothesis import settings

settings.register_profile("rllm", deadline=None, max_examples=40, database=None)
settings.load_profile("rllm")
