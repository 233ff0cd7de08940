"""Evaluation: predictions, and what is measured on them."""
