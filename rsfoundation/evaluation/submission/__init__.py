"""Archives for the servers of DOTA and FAIR1M: writing and checking."""
