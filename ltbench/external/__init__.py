"""Rows of models that ltbench has not trained: predictions of others, weights of others."""
