"""What decides as a search goes on: proposed points, stages that open, verdicts on trials.

Deciding is pure (`strategies`); here it meets the ledger and the plan. Nothing is imported here: readers
need no models and no referee.
"""
