"""Loading: images in memory or from files, in batches."""
