"""Workloads: training functions as a user would write them."""
