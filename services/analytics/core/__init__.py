"""Everything that the features of analytics share: facts, counters, the calendar, and the store."""
