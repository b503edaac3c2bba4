"""The worker's side: the keeper, which runs no user code, and the scorer's process that it forks."""
