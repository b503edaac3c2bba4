"""Whether a job's gain can be had without answering the rows: the signs, and the verdict that they allow."""
