"""Start, stop and resume jobs from the dashboard: each job is a process of its own, the real command line."""
