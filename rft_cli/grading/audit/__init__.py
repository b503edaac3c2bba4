"""The audit of a grader: which rewards right, wrong and dishonest completions of real rows get. It only grades."""
