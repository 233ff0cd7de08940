"""Runs seen from outside while they are under way: heartbeats, the live view, TensorBoard."""
