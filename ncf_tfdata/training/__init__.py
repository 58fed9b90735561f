"""How a model is trained: configuration, loop, checkpoints, workers."""
