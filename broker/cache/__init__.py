"""The stores of the swarm, seen and steered from the supernode: questions to hosts, HTTP, `supernode cache`."""
