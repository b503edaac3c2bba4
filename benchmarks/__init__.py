"""Benchmarks: every performance claim of rft as a ratio, both sides measured in one run on one machine."""
