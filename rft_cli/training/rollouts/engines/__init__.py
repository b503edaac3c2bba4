"""What samples completions outside of the trainer: engines, their weights, and the correction for their differences."""
