"""What part of a GPU a worker got: looking at it, judging it, holding trials to it, without loading torch."""
