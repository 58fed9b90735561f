"""What is known of items and users beside their interactions; without TensorFlow."""
