"""Figures for readers: overview, time series, coverage, and the gauges of the organisation."""
