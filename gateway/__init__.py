"""dfdaemon: dockerd's HTTP(S) proxy and registry mirror, which takes blobs through the swarm and leaves the rest alone."""
