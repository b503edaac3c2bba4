"""vLLM as the engine of rollouts: its HTTP interface, its process, and whether a server fits a job."""
