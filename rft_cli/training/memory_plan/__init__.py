"""How much memory a job needs, from the model's configuration alone (`rft validate --plan`): no weights are read.

The model's own code runs on tensors without content (`live_memory`, `passes`), and `planner` adds up what a job holds
beside them. `make_plan` is what the command calls.
"""
