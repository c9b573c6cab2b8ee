"""What a machine says of itself: GPUs, processors, hardware."""
