"""The worker's side: the process that imports the scorer and grades."""
