"""Training: the loop, its steps, optimisers, schedules, checkpoints."""
