"""Everstep: a durable workflow engine for multi-step LLM tasks on Temporal."""

__version__ = "0.1.0"
