"""Comparing methods: seeds x methods x tasks as jobs, and what may be concluded from them. Re-exports nothing."""
