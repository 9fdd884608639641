"""Fault campaigns: seeded, replayable, with counts; run by `tools/chaos`."""
