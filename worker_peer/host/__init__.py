"""What a process needs to stand on a machine: store, source reader, limits, clock, settings, logs. Imports wire only."""
