"""How a trial is run: a forked process of the user's function, or any program."""
