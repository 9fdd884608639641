"""What a cluster's SLURM says of itself and does to a job, and the profile that follows."""
