"""Ages: the events tell which members may be minors, and when they come of age."""
