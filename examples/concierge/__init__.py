"""The example's modules."""
