"""Frozen features: what a pre-trained network makes of every image, computed once and kept for all runs."""
