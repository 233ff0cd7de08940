"""Images and labels: sources, long-tailed subsets, augmentation, mixing, batches."""
