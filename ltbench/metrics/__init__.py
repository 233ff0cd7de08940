"""Metrics: pure functions of logits and labels."""
