"""What is asked of SLURM, and how its words are read."""
