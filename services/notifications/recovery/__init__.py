"""Recovery: notifications made anew from the log, and published again as snapshots."""
