"""Reading and writing files: whole or not at all, bounded, one process at a time."""
