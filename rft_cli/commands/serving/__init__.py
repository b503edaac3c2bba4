"""Parts of `rft serve`."""
