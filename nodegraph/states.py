"""The states of a step in a run."""

IDLE = 0
"""Nobody has asked for it."""
WAITING = 1
"""Asked for; its inputs, or another run's work on the same key, are not there yet."""
READY = 2
"""In its lane."""
RUNNING = 3
DONE = 4
FAILED = 5
SKIPPED = 6
