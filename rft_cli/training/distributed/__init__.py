"""Several processes: started, watched, told to stop, agreed among themselves."""
