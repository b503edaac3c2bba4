"""PPO with a learned critic: formulas as pure functions, the critics, and the trainer that wires them."""
