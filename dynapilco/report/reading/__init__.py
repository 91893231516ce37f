"""Reading what runs and comparisons left on disk. Nothing that is read can run."""
