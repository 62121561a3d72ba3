"""Use cases on sessions: who talks, what a model is asked in a turn, and what becomes of the turn."""
