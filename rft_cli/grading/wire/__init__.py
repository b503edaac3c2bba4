"""Messages between a grader and its workers."""
