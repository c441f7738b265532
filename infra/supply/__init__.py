"""The supply chain: a bill of materials and an audit of every lock (`python -m infra.supply`)."""
