"""Read and write files: atomic, bounded, one process at a time."""
