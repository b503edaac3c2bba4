"""What each kind of command needs to be set: keys of the preflight's checks."""

JOB_NEEDS = ("train", "validation", "grader", "model")
MEASURE_NEEDS = ("validation", "grader", "model")
