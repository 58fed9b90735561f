"""How a ranking is judged: ranks, metrics, intervals, baselines. No TensorFlow."""
