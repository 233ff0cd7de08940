"""ltbench data verify: what is there, what is missing, what is damaged."""
