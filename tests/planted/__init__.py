"""Bugs that are planted in a copy of the program to see that a test falls: `make planted`."""
