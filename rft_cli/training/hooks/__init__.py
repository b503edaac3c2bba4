"""What a job adds to transformers' Trainer: journal, checkpoints, validations, resume, divergence, tripwires."""
