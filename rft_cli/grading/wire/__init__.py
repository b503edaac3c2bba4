"""What travels between a grader and its workers."""
