"""A small world for tests and the demo: a CA, a DNS stub, mail servers of different virtue, a gateway."""
