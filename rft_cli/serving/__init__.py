"""Serving: engines that answer, the front before them, and requests to an endpoint. Loads no torch."""
