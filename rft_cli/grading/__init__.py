"""Graders and their worker processes. Torch-free; workers import only `worker` and what it needs."""
