"""From prompts to completions that are graded and scored; validation samples the same way."""
