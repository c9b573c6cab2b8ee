"""From recorded runs to verdicts: intervals, claims, judgement, validity."""
