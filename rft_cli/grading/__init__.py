"""Graders: completions in, grades out. Python scorers run in worker processes. Without torch."""
