"""`make hostile`: what a neighbour with write access to a topic can do to the running system, measured."""
