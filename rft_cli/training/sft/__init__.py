"""Supervised fine-tuning on the rows' references: a warm-up for reinforcement, or all that is needed."""
