"""The parts of `rft grade`: its rows, what people see, the checks before it, the audit."""
