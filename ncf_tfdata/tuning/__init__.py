"""A search over recipes: spaces, suggestions, trials in processes of their own."""
