"""Who takes a message to its member: a plug-in behind one protocol, chosen by SANGATHAN_SENDER."""
