"""The tuned model out of a run, and the proof that it is the run's."""
