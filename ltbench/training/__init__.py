"""Training: the loop, its steps, schedules, checkpoints."""
