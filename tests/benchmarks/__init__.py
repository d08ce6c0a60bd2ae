"""How fast the product is, how much it needs, and beside what: `make bench`."""
