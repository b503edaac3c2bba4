"""Recipes that make what ships with rft: the sample data and the embedded demonstration model."""
