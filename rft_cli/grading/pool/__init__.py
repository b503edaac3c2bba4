"""rft's side of a scorer's worker processes: sends completions, takes grades back, replaces workers that die."""
