"""What inference-doctor itself says of run times: its function's answer to each case that comes in
by standard input. Runs in the environment that ``check.py`` builds."""

from __future__ import annotations

import json
import sys

from inference_doctor.quality import QualityThresholds, decide_regression


def main() -> None:
    found = []
    for case in json.load(sys.stdin):
        decision = decide_regression(
            case["old"],
            case["new"],
            lower_is_better=True,
            thresholds=QualityThresholds(
                regression_percent=case["margin"], confidence=case["confidence"]
            ),
        )
        found.append([decision.status, decision.ratio_low, decision.ratio_high])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
