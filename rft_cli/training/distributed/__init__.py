"""Several processes on one machine: started, supervised, stopped, and in agreement."""
