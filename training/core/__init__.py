"""What the training methods share: configuration, batches, networks, optimisation, checkpoints, lineage."""
