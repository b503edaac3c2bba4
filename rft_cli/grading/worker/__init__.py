"""The worker process: it imports the scorer and grades."""
