"""Preheating: the jobs' driver, registries, the history on disk, and what Harbor speaks over HTTP."""
