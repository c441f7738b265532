"""Coverage of the tree and the women connected, for every day: rules (`domain`) and collections (`store`)."""
