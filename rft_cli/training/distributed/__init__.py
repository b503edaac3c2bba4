"""Several processes: started, followed to their end, told to stop, agreed among themselves."""
