"""What a trained model answers: recommendations, files, the export, the page."""
