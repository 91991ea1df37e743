"""Moving pieces: the one implementation that dfget, the gateway and the supernode's seed share.

`api.py` is the front door for the gateway and the broker; `core/` decides, the modules beside it do the I/O, `host/` is
what any process needs to stand on a machine.
"""
