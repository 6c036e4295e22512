"""Finding what no webhook said: reads of customers in doubt, sweeps of the list, the brake on deletions."""
