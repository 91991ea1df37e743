"""`dfdaemon setup`: carries out what gateway.core.setup plans, remembers what was there before, and takes it back."""
