"""Runs: one, many, a search; and what watches them."""
