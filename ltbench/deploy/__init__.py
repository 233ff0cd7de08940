"""Trained runs put to use: on new images, and as files that work without ltbench."""
