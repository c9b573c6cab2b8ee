"""What was recorded of a run, and how it is written and read."""
