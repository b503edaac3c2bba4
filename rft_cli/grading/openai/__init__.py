"""OpenAI's grader specs, run here: models, templates, formulas, metrics, and the tree of graders they describe."""
