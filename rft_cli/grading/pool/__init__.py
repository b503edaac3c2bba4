"""rft's side of a scorer's worker processes: work handed out, grades taken back, lost processes replaced."""
