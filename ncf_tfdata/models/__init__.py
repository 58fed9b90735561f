"""What is trained: NeuMF, the history model, and their objectives."""
