"""PPO: formulas as pure functions, the critic, and the trainer that wires them."""
