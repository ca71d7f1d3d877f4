"""What producers and workers agree on: jobs, numbers, states, and the ledger that holds them."""
