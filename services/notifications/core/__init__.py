"""Everything that the features share: the notification and its rules, recipients, stores, clients."""
