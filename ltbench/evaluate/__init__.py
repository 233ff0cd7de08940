"""Evaluation: logits, accuracy, calibration."""
