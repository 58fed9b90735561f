"""Train, judge and serve neural collaborative filtering from a dataset directory."""
