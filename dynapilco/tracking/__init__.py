"""Sinks for what happens in a run. Called by the agent, never calling it."""
