"""Everything that the features of notifications share: the notification and its rules, recipients, stores, clients."""
