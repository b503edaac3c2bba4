"""Isolates a scorer's process: its output, its folder, processes that it starts, and OpenAI's limits."""
