"""Names of the splits that the demo and the studies want of a corpus."""

LABELLED, UNLABELLED, DEV, TEST = SPLITS = ("train-labeled", "train-unlabeled", "dev", "test")
