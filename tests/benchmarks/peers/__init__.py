"""What others would have written, each run in a virtual environment of its own, without `etl`."""
