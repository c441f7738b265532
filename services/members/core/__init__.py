"""The parts of the members service that several of its features are built on."""
