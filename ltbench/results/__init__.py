"""Results: one JSON file a run."""
