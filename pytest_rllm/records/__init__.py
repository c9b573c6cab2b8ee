"""What is recorded of a run, and how records are written and read."""
