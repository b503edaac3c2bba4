"""What a scorer's process gives up, and what is held against it: network, files, output, what it starts."""
