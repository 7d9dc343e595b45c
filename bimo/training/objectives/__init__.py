"""What a run minimises: one file an objective, each with the batches it reads."""
