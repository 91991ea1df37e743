"""What both ends of a connection must compute alike: ids, pieces, digests, messages, their encoding and framing.

Pure: standard library, msgpack and lz4 only. No socket, clock, randomness, file or log, and nothing of ours is imported.
PROTOCOL.md is the authority; change it first.
"""
