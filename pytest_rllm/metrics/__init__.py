"""Numbers from a recorded run."""
