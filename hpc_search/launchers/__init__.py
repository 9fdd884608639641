"""Ways of starting workers: SLURM job arrays and processes of this machine."""
